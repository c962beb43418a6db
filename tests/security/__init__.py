"""What an attacker at each interface can and cannot do; each line of docs/security.md names one of these."""
