"""The HTTP server: one model and one cache for many applications, in OpenAI's forms and our own.

It knows requests, keys and limits; what is asked of the model is the engine's business.
"""
