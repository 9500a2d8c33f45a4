"""From uploaded files to a manifest: expand, decode, describe, store.

service.py      the worker's task: claim a dataset, examine it, commit the outcome
lease.py        holds the claim while it lasts
scratch.py      the folder that an examination works in
examination.py  what becomes of every file
sandbox.py      starts, asks and ends the process that opens what users sent
decoder.py      that process; archives.py, names.py and pictures.py run in it alone
captions.py     texts of unknown encoding
"""
