"""Text on its way to the model: templates, recognition of registered documents, tokens.

`chat` renders messages through a model's chat template, `recognize` finds registered documents
in plain text, `tokenize` turns segments into token ids. None of them knows a model or torch.
"""
