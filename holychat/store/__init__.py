"""Border to the disk: what holychat keeps."""
