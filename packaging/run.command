#!/bin/bash
# macOS: double-click, or type it in a terminal. Needs Python 3.11 or newer; everything else comes into .venv/.
cd "$(dirname "$0")/.." && exec bash packaging/run.sh "$@"
