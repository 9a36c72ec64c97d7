"""aot: prefix caching for vLLM and SGLang, deployed and measured.

One import name for all of it. The rooms below are links to the folders at the top of the checkout;
a wheel holds real files.
"""
