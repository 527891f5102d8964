"""What runs on the GPU node: the vLLM launcher, the embedding server, model files.

The API side reaches it by HTTP or starts it as a subprocess, and never imports it.
"""
