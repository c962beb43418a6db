"""What a program may implement or name in its types, as files of the official client's names."""
