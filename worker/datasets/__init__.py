"""From uploaded files to a manifest: expand, decode, describe, store.

service.py      the worker's task: claim a dataset, examine it, commit the outcome
lease.py        holds the claim while it lasts
scratch.py      the folder that an examination works in
examination.py  what becomes of every file
findings.py     what was found out so far, and the report; ledger.py holds that no file is forgotten
sandbox.py      starts, asks and ends the process that opens what users sent
decoder.py      that process; in it alone run archives.py with names.py, zip_names.py and name_encodings.py, and
                pictures.py with opening.py, colours.py, coded_colours.py and png_chunks.py
captions.py     texts of unknown encoding
"""
