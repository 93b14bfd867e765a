"""The flow engine: manifests, references and the state machine that decides what runs next.

Pure code: it reads manifest files and turns messages into actions. It starts no process,
opens no socket and knows neither the store nor HTTP.
"""
