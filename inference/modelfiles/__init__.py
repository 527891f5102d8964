"""Model files on a host: fetched, checked, kept, carried. `python -m inference.models` is the door.

    names.py      what a person may write (NAME[:FILE.gguf][@REVISION]), and which paths a hub or a bundle may name
    choice.py     which of a model's files are needed
    hub.py        the hub: what it holds, and its bytes, resumed where they broke off
    claims.py     one process at a time works on a model, on a volume that many hosts share
    manifest.py   stoker.json: what a folder must hold, and whether it does
    store.py      the folder of models: what is there, and how a model appears in it
    pull.py       all of these, from a name to a folder
    bundle.py     models into one file; unbundle.py takes them out of it
    gguf.py       a GGUF file into a folder that vLLM reads
    defaults.py   the models that come in packages

Errors are in errors.py; each has a message and a remedy. What is said on standard output is in says.py.
"""
