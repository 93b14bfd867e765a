"""What the server and a worker say to each other, besides the messages of the jobs."""

from __future__ import annotations

#: Server → worker.
RUN_JOB = "RunJob"
#: A service is started before a block of it is run.
START_SERVICE = "StartService"
ABORT_JOB = "AbortJob"
RESET = "Reset"
#: The answer to a BlockRequest of a job.
RESPOND = "Respond"
#: An event of a block that a job started by run_block.
NOTIFY = "Notify"

#: Worker → server.
WORKER_READY = "WorkerReady"
RESET_DONE = "ResetDone"
#: A job is over and its function has returned; its BlockFinished may have come long before.
JOB_ENDED = "JobEnded"
#: There is nothing in the job to be aborted that could be cancelled.
JOB_UNSTOPPABLE = "JobUnstoppable"

#: RunJob gives each job a number; just before its BlockFinished the worker writes that number
#: between these two strings to the error output. So the server can tell what the block's child
#: processes wrote before the job ended.
MARK_START = "\0mark:"
MARK_END = "\0"
