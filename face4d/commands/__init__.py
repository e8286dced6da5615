"""Everything that knows argparse: flags that scripts share, and the command lines of the library."""
