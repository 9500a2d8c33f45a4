"""From uploaded files to a manifest: expand, decode, describe, store.

service.py      the worker's task: claim a dataset, examine it, commit the outcome
lease.py        holds the claim while it lasts
scratch.py      the folder that an examination works in
examination.py  the result for every file
findings.py     the findings so far, and the report; ledger.py ensures that no file is forgotten
sandbox.py      starts, asks and ends the process that opens users' files
decoder.py      that process; only there run archives.py with names.py, zip_names.py and name_encodings.py, and
                images.py with opening.py, colours.py, coded_colours.py and png_chunks.py
captions.py     texts of unknown encoding
"""
