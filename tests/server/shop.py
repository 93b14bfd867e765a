"""The package the server's tests run: small blocks, each with one habit worth testing."""

from __future__ import annotations

from pathlib import Path

from packages import task_text, write_package


def write_shop(directory: Path) -> None:
    """Write the package into this directory."""
    write_package(directory, "shop", "1.2.0", FILES)


_WAIT = """
import os, time

def wait_for(gate):
    while not os.path.exists(gate):
        time.sleep(0.01)
"""

FILES: dict[str, str] = {
    "waiting.py": _WAIT,
    # Adds two numbers; the second has a default.
    "tasks/add/task.oo.yaml": task_text("a b=10", "sum", "description: a block of the shop\n"),
    "tasks/add/main.py": """
def main(params, context):
    return {"sum": params["a"] + params["b"]}
""",
    # Appends a line to a file, so that a test can count its runs.
    "tasks/note/task.oo.yaml": task_text("file text", "text"),
    "tasks/note/main.py": """
def main(params, context):
    with open(params["file"], "a") as file:
        file.write(f"{params['text']}\\n")
    return {"text": params["text"]}
""",
    # Notes its process id, gives numbers, then waits until the gate exists, then gives more.
    "tasks/gated/task.oo.yaml": task_text("file gate text=nothing", "number text"),
    "tasks/gated/main.py": """
import os
from waiting import wait_for

def main(params, context):
    with open(params["file"], "a") as file:
        file.write(f"{os.getpid()}\\n")
    print("gated begins")
    context.output("number", 1)
    context.outputs({"number": 2})
    wait_for(params["gate"])
    context.output("number", 3)
    return {"text": params["text"] + "!"}
""",
    "tasks/fail/task.oo.yaml": task_text("reason=unknown", "never"),
    "tasks/fail/main.py": """
def main(params, context):
    raise ValueError("no such customer: " + params["reason"])
""",
    "tasks/not_a_number/task.oo.yaml": task_text("", "values"),
    "tasks/not_a_number/main.py": """
def main(params, context):
    return {"values": [float("nan"), 1, float("inf")]}
""",
    "tasks/chat/task.oo.yaml": task_text("lines", "lines"),
    "tasks/chat/main.py": """
def main(params, context):
    for number in range(params["lines"]):
        print("line", number)
        if number % 100 == 0:
            context.report_progress(100 * number / params["lines"])
    return {"lines": params["lines"]}
""",
    # Takes one file, files, and a path that has a default; gives what they hold.
    "tasks/press/task.oo.yaml": """
executor: {name: python, options: {entry: main.py}}
inputs_def:
  - {handle: title, value: untitled}
  - {handle: cover, json_schema: {type: string, "ui:widget": file}}
  - {handle: paper, value: plain, json_schema: {type: string, format: path}}
  - {handle: pages, value: [], json_schema: {type: array, "ui:widget": files}}
  - {handle: more, nullable: true}
outputs_def: [{handle: cover}, {handle: paper}, {handle: pages}, {handle: more}]
""",
    "tasks/press/main.py": """
import hashlib, os

def text(path):
    if os.path.getsize(path) > 1000:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    with open(path, encoding="utf-8") as file:
        return os.path.basename(path) + ": " + file.read()

def main(params, context):
    paper, more = params["paper"], params["more"]
    return {
        "cover": text(params["cover"]),
        "paper": paper if paper == "plain" else text(paper),
        "pages": [text(page) for page in params["pages"]],
        "more": text(more["deep"][0]) if more else None,
    }
""",
    # Leaves files in the directory of its task, and a way out of it.
    "tasks/leave/task.oo.yaml": task_text("secret", "directory"),
    "tasks/leave/main.py": """
import os

def main(params, context):
    root = context.session_dir
    os.makedirs(os.path.join(root, "deep", "est"))
    with open(os.path.join(root, "deep", "est", "größe 1.txt"), "w", encoding="utf-8") as file:
        file.write("0123456789")
    with open(os.path.join(root, "page.html"), "w") as file:
        file.write("<script>alert(1)</script>")
    open(os.path.join(root, "empty"), "w").close()
    os.symlink(params["secret"], os.path.join(root, "link"))
    os.symlink(os.path.dirname(params["secret"]), os.path.join(root, "folder"))
    return {"directory": root}
""",
    # Starts a child process and waits for ever.
    "tasks/forever/task.oo.yaml": task_text("file", "never"),
    "tasks/forever/main.py": """
import os, subprocess, sys, time

def main(params, context):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with open(params["file"], "w") as file:
        file.write(f"{os.getpid()} {child.pid}\\n")
    time.sleep(600)
""",
    # Hands an object that can't leave its process to the next node.
    "tasks/make_object/task.oo.yaml": """
executor: {name: python, options: {entry: main.py, function: main}}
inputs_def:
  - handle: file
outputs_def:
  - handle: object
    json_schema: {contentMediaType: oomol/var}
""",
    "tasks/make_object/main.py": """
class Basket:
    items = 3

def main(params, context):
    with open(params["file"], "a") as file:
        file.write("made\\n")
    return {"object": Basket()}
""",
    "tasks/use_object/task.oo.yaml": """
executor: {name: python, options: {entry: main.py, function: main}}
inputs_def:
  - handle: object
    json_schema: {contentMediaType: oomol/var}
  - handle: gate
  - handle: file
outputs_def:
  - handle: items
""",
    "tasks/use_object/main.py": """
from waiting import wait_for

def main(params, context):
    with open(params["file"], "a") as file:
        file.write("used\\n")
    wait_for(params["gate"])
    return {"items": params["object"].items}
""",
    "tasks/broken/task.oo.yaml": "executor: {name: python\n",
    # Two nodes: the first leaves a line in a file, the second waits for the gate.
    "flows/two/flow.oo.yaml": """
title: Two nodes
inputs_def:
  - handle: notes
  - handle: file
  - handle: gate
nodes:
  - node_id: first
    task: self::note
    inputs_from:
      - {handle: file, from_flow: [{input_handle: notes}]}
      - {handle: text, value: hello}
  - node_id: second
    task: self::gated
    inputs_from:
      - {handle: text, from_node: [{node_id: first, output_handle: text}]}
      - {handle: file, from_flow: [{input_handle: file}]}
      - {handle: gate, from_flow: [{input_handle: gate}]}
outputs_from:
  - {handle: answer, from_node: [{node_id: second, output_handle: text}]}
outputs_def:
  - handle: answer
""",
    "flows/failing/flow.oo.yaml": """
nodes:
  - node_id: breaks
    task: self::fail
    inputs_from:
      - {handle: reason, value: gone}
""",
    # The second node notes every output of the first; its file is an input of the node.
    "flows/count/flow.oo.yaml": """
inputs_def:
  - handle: file
  - handle: gate
nodes:
  - node_id: source
    task: self::gated
    inputs_from:
      - {handle: text, value: x}
      - {handle: file, from_flow: [{input_handle: file}]}
      - {handle: gate, from_flow: [{input_handle: gate}]}
  - node_id: sink
    task: self::note
    inputs_from:
      - {handle: text, from_node: [{node_id: source, output_handle: number}]}
      - {handle: file, value: given-as-input-of-the-node}
""",
    "flows/objects/flow.oo.yaml": """
inputs_def:
  - handle: file
  - handle: gate
nodes:
  - node_id: make
    task: self::make_object
    inputs_from:
      - {handle: file, from_flow: [{input_handle: file}]}
  - node_id: use
    task: self::use_object
    inputs_from:
      - {handle: object, from_node: [{node_id: make, output_handle: object}]}
      - {handle: gate, from_flow: [{input_handle: gate}]}
      - {handle: file, from_flow: [{input_handle: file}]}
outputs_from:
  - {handle: items, from_node: [{node_id: use, output_handle: items}]}
outputs_def:
  - handle: items
""",
}
