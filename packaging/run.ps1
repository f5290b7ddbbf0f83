# Windows: right-click, "Run with PowerShell", or: powershell -ExecutionPolicy Bypass -File packaging\run.ps1 [arguments]
# Makes .venv\ from the lock file and starts WatchHamster on the built-in exchange. Needs Python 3.11 or newer.
$ErrorActionPreference = "Stop"
$root = Split-Path -Parent $PSScriptRoot
Push-Location $root
try {
    $lock = "packaging\run.lock"
    $stamp = ".venv\.ready-run"
    $key = (Get-FileHash $lock).Hash + (Get-FileHash "pyproject.toml").Hash
    if (-not (Test-Path $stamp) -or ((Get-Content $stamp) -ne $key)) {
        Write-Host "· installing Python packages into .venv (a minute the first time)"
        py -3 -c "import sys; sys.exit(sys.version_info < (3, 11))"
        if ($LASTEXITCODE -ne 0) { throw "WatchHamster needs Python 3.11 or newer: https://www.python.org/downloads/" }
        py -3 -m venv .venv
        & .venv\Scripts\python.exe -m pip install --disable-pip-version-check --quiet --require-hashes -r $lock
        if ($LASTEXITCODE -ne 0) { throw "The Python packages could not be installed." }
        & .venv\Scripts\python.exe -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
        if ($LASTEXITCODE -ne 0) { throw "WatchHamster itself could not be installed." }
        Set-Content $stamp $key
    }
} finally { Pop-Location }
if ($args.Count -eq 0) { $args = @("--demo") }
& "$root\.venv\Scripts\watchhamster.exe" @args
exit $LASTEXITCODE
