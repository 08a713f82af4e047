"""Whether the cluster has room for what an upgrade needs beside what runs. Only ever a warning: nodes may be added."""
