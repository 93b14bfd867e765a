"""The Python worker: what runs inside a worker process, next to the blocks of one package.

The process is started from the file ``__main__.py`` by the interpreter of the package's own
environment, where this distribution is not installed. So everything here imports only the
standard library, oocana and its siblings, and is readable by Python 3.9. The server shares
``frames``, ``lines`` and ``protocol``.
"""
