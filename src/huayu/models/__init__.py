"""The model families: one folder each, one line each in :mod:`huayu.models.families`."""
