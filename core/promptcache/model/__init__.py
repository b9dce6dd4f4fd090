"""The model: loaded, probed, run over chosen positions, decoded. All that knows torch modules."""
