import sys
from pathlib import Path

# the programs are scripts beside the package, and import one another
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
