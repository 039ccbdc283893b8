"""`python -m bolid.demo.people`: a folder of photos with a table of their truth."""

import sys

from .albums import main

sys.exit(main())
