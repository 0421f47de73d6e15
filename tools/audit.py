"""Look the locked dependencies up in the database of known vulnerabilities, with pip-audit.

The exit status is 0 if none is known, 1 if some are, and 2 if the database could not be asked: pip-audit itself does
not tell the last two apart.

    python tools/audit.py requirements.lock
"""

import json
import subprocess
import sys

UNREACHABLE = "The database of vulnerabilities could not be asked, so nothing is known about the locked versions:"


def audit(lock: str) -> int:
    """Print what is known about the versions in the file ``lock``; return the exit status."""
    command = ["-m", "pip_audit", "--disable-pip", "--require-hashes", "--format", "json", "--progress-spinner", "off"]
    done = subprocess.run([sys.executable, *command, "-r", lock], capture_output=True, text=True)
    try:
        dependencies = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        reason = done.stderr.strip().splitlines()
        print(f"{UNREACHABLE}\n  {reason[-1] if reason else 'pip-audit said nothing'}", file=sys.stderr)
        return 2
    skipped = [each for each in dependencies if "skip_reason" in each]
    vulnerable = [each for each in dependencies if each.get("vulns")]
    if len(skipped) == len(dependencies):
        print(f"{UNREACHABLE}\n  {skipped[0]['skip_reason'] if skipped else 'it is empty'}", file=sys.stderr)
        return 2
    for each in skipped:
        print(f"{each['name']}: not looked up: {each['skip_reason']}", file=sys.stderr)
    for each in vulnerable:
        for found in each["vulns"]:
            fixed = ", ".join(found["fix_versions"]) or "no version yet"
            print(f"{each['name']} {each['version']}: {found['id']}, fixed in {fixed}")
    if vulnerable:
        return 1
    print(f"No vulnerability is known in {len(dependencies) - len(skipped)} locked dependencies.")
    return 2 if skipped else 0


if __name__ == "__main__":
    sys.exit(audit(*sys.argv[1:]))
