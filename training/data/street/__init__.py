"""The drawn street: what stands where (scene), how it is painted (painter and the object families), and the writer."""
