"""Where pictures come from: a folder, files on shared storage, data sets of the Hub."""
