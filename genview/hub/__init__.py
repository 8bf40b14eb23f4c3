"""Models of the Hugging Face hub: which ones a study needs, fetched before the first job, and pinned by a lock.

``sources`` says what a study needs, ``fetch`` brings it into the hub's cache, ``lock`` keeps revisions and digests.
"""
