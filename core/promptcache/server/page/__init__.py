"""The page at `/`: what a namespace has in the cache, and what it asked lately.

Its markup is made here, element by element, so that every text in it is escaped. The frame, its
style and its script are files beside this one; nothing is built, and nothing else is loaded.
"""
