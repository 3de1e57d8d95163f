package daemon

import (
	"path/filepath"

	"github.com/missionopsai/foundry/internal/evidence"
	"github.com/missionopsai/foundry/internal/fleet/member"
)

// resealFiles seals anew, after a rotation of the keyring in files, what lies
// there for good. The rest goes by itself: the snapshot is written anew within
// a minute, mail is wiped, segments of the journal are shipped.
func (d *Daemon) resealFiles() error {
	if err := d.resealAuthority(); err != nil {
		return err
	}
	if d.Member() != nil {
		if err := member.Reseal(FleetDir(d.config.DataDir), d.keyring); err != nil {
			return err
		}
	}
	if err := d.auditLog.Reseal(); err != nil {
		return err
	}
	if d.passphrases != nil {
		if err := d.passphrases.Reseal(); err != nil {
			return err
		}
	}
	if d.glass != nil {
		if err := d.glass.Reseal(); err != nil {
			return err
		}
	}
	dir := filepath.Join(d.config.DataDir, "evidence")
	signer, err := evidence.OpenSigner(dir, d.keyring.Seal, d.keyring.Open)
	if err != nil {
		return err
	}
	return signer.Reseal(dir, d.keyring.Seal)
}
