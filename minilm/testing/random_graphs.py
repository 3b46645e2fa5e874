random_graph=None
