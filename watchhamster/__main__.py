"""The program's door: the bare desktop start goes straight to the window, everything else to the command line."""

from __future__ import annotations


def main() -> None:
    """Run `watchhamster` with the arguments of this process."""
    raise SystemExit(0)


if __name__ == "__main__":
    main()
