package evidence

import (
	"slices"
	"strings"
	"time"
)

// Wiring is how the collectors reach what they look at. What is nil is not
// built in yet: its control is inconclusive and says so, never green.
type Wiring struct {
	Listeners func() []Listener
	Plain     func() (plain, https string)
	Now       func() time.Time

	Routes    Collect // O-03
	Storage   Collect // O-06: volumes, swap, core dumps
	Search    Collect // O-06: a canary in all files
	Apart     Collect // O-07
	Hashes    Collect // O-12
	Canary    Collect // O-13
	Register  Collect // O-14
	SignIn    Collect // O-15
	Denials   Collect // O-16
	Synthetic Collect // O-17
	Verify    Collect // O-17.verify

	VerifyEvery time.Duration // of O-17.verify; 0: daily
	Credential  bool          // the key-encryption key is a systemd credential: O-07.credential is asked for

	BackupsEncrypted Collect // O-06: the repositories of backups
	BackupKeys       Collect // O-07: key material at the targets of backups
	BackupAge        Collect // O-29
	BackupKept       Collect // O-30
	BackupApart      Collect // O-31
	BackupDrilled    Collect // O-32
	BackupMeasured   Collect // O-33
	CodeMirrors      Collect // O-47
	BackupQuarter    Collect // O-48
	Restored         Collect // O-53
	EmergencyKit     Collect // O-56
	Contacts         Collect // O-57
	ContactDrill     Collect // O-58

	Patroni Collect // O-33.patroni; nil: Patroni keeps no database here

	// Plan looks at the continuity plan in force for the control with this id.
	Plan func(id string) Collect
}

const (
	hour = time.Hour
	day  = 24 * time.Hour
)

// Catalogue lists the controls that there are, in the order of the obligations.
func Catalogue(w Wiring) []Control {
	part := func(name string, c Collect, missing string) Collect {
		return Parts(Part{Name: name, Collect: c, Missing: missing})
	}
	if w.VerifyEvery == 0 {
		w.VerifyEvery = day
	}
	all := []Control{
		{ID: "O-03", Title: "Data leaves the EEA only for inference that the organisation's policy allows", Source: "Security policy, section 2",
			Checks:    "A canary request to every provider that the default policy forbids must be refused.",
			Collector: "gateway-canary", Version: "1", Every: hour, Fresh: 3 * hour, Timeout: time.Minute, PerNode: true,
			Collect: part("canary calls", w.Routes, "Nothing asks the gateway yet.")},
		{ID: "O-06", Title: "Database, backups and files are encrypted with AES-256", Source: "Security policy, section 3",
			Checks:    "The volumes of the data, swap and core dumps are encrypted or off, and a canary is in no file in plaintext.",
			Collector: "encryption", Version: "1", Every: 12 * hour, Fresh: 36 * hour, Timeout: 10 * time.Minute, PerNode: true,
			Collect: Parts(Part{"storage", w.Storage, "Nothing reads the node's storage yet."}, Part{"canary search", w.Search, "Nothing searches the files for a canary yet."},
				Part{"repositories of backups", w.BackupsEncrypted, "Nothing looks at the repositories of backups yet."})},
		{ID: "O-07", Title: "Keys are kept apart from the data", Source: "Security policy, section 3",
			Checks:    "The key-encryption key lies on another volume than data and backups, and no file among them holds a copy.",
			Collector: "key-material", Version: "1", Every: 6 * hour, Fresh: day, Timeout: 5 * time.Minute, PerNode: true,
			Collect: Parts(Part{"key-encryption key", w.Apart, "Nothing looks for key material yet."}, Part{"targets of backups", w.BackupKeys, "Nothing looks for key material at the targets of backups yet."})},
		{ID: "O-07.escrow", Title: "Somebody else holds a copy of the key-encryption key", Source: "Security policy, section 3; continuity plan, section 4.2",
			Checks: "No machine can see what lies in a safe. An owner states where the escrowed copy is and when it was last tried.",
			Fresh:  365 * day},
		{ID: "O-07.credential", Title: "What opens the systemd credential is kept apart from the data", Source: "Security policy, section 3",
			Checks: "No program that is given a credential sees where systemd keeps it. An owner states where that is, and what opens it there.",
			Fresh:  365 * day},
		{ID: "O-08", Title: "All client traffic uses TLS 1.3", Source: "Security policy, section 3",
			Checks:    "A handshake with every listener of the node must end in TLS 1.3, with a certificate that holds.",
			Collector: "tls-handshake", Version: "1", Every: hour, Fresh: 3 * hour, Timeout: time.Minute, PerNode: true, Collect: TLS13(w.Listeners, w.Now)},
		{ID: "O-09", Title: "TLS 1.1 and older are refused", Source: "Security policy, section 3",
			Checks:    "Offers of SSL 3.0, TLS 1.0, 1.1 and 1.2 alone must be refused by every listener.",
			Collector: "tls-old-versions", Version: "1", Every: hour, Fresh: 3 * hour, Timeout: 2 * time.Minute, PerNode: true, Collect: OldTLS(w.Listeners)},
		{ID: "O-10", Title: "HTTP is redirected to HTTPS", Source: "Security policy, section 3",
			Checks:    "Requests to the plain-HTTP listener must be answered with a permanent redirect that keeps the path.",
			Collector: "http-redirect", Version: "1", Every: hour, Fresh: 3 * hour, Timeout: time.Minute, PerNode: true, Collect: Redirect(w.Plain)},
		{ID: "O-11", Title: "Connections have forward secrecy", Source: "Security policy, section 3",
			Checks:    "Full and resumed handshakes must agree on a fresh key by (EC)DHE; an offer without one must be refused.",
			Collector: "tls-forward-secrecy", Version: "1", Every: hour, Fresh: 3 * hour, Timeout: time.Minute, PerNode: true, Collect: ForwardSecrecy(w.Listeners)},
		{ID: "O-12", Title: "Tokens and credentials are hashed with bcrypt", Source: "Security policy, section 3",
			Checks:    "Every row of every column that holds a credential must be a bcrypt hash of at least the agreed cost, and no such column is unlisted.",
			Collector: "bcrypt-rows", Version: "1", Every: hour, Fresh: 3 * hour, Timeout: 5 * time.Minute, Collect: part("columns", w.Hashes, "Nothing reads the hashes yet.")},
		{ID: "O-13", Title: "Credentials are never stored in plaintext", Source: "Security policy, section 3",
			Checks:    "A canary credential is shown to the node and then looked for in the text of every table and in the logs.",
			Collector: "credential-canary", Version: "1", Every: 6 * hour, Fresh: day, Timeout: 10 * time.Minute, PerNode: true,
			Collect: part("canary", w.Canary, "Nothing shows and searches a canary yet.")},
		{ID: "O-14", Title: "There is an access register, reviewed regularly", Source: "Security policy, section 4",
			Checks:    "The register must be fresh and agree with the accounts that exist, and the last review must be within the period of the continuity plan.",
			Collector: "access-register", Version: "2", Every: hour, Fresh: 3 * hour, Timeout: time.Minute,
			Collect: Parts(Part{"access register", w.Register, "There is no access register yet."}, w.planPart("O-14"))},
		{ID: "O-15", Title: "Administrative access needs a second factor", Source: "Security policy, section 4",
			Checks:    "An administrator's sign-in with the right password and no second factor must be refused.",
			Collector: "sign-in-probe", Version: "1", Every: 6 * hour, Fresh: day, Timeout: time.Minute,
			Collect: part("administrator sign-in", w.SignIn, "Nothing tries to sign in without a second factor yet.")},
		{ID: "O-16", Title: "Access follows roles", Source: "Security policy, section 4",
			Checks:    "Requests without credentials, with forged ones and with those of another organisation must be denied.",
			Collector: "negative-probes", Version: "1", Every: hour, Fresh: 3 * hour, Timeout: time.Minute, PerNode: true,
			Collect: part("negative probes", w.Denials, "Nothing asks what must be denied yet.")},
		{ID: "O-17", Title: "Significant accesses are in the audit log", Source: "Security policy, section 4",
			Checks:    "A synthetic access must be in the audit log within seconds, with a valid proof.",
			Collector: "synthetic-access", Version: "1", Every: hour, Fresh: 3 * hour, Timeout: 2 * time.Minute,
			Collect: part("synthetic access", w.Synthetic, "Nothing makes a synthetic access yet.")},
		{ID: "O-17.verify", Title: "Nothing in the audit log was changed", Source: "Security policy, section 4",
			Checks:    "Every entry is read again, the tree is computed again, and both are compared with every checkpoint that was signed.",
			Collector: "audit-verify", Version: "1", Every: w.VerifyEvery, Fresh: 3 * w.VerifyEvery, Timeout: min(w.VerifyEvery, 2*hour),
			Collect: part("verification", w.Verify, "Nothing verifies the audit log yet.")},
		{ID: "O-29", Title: "Backups are made daily", Source: "Security policy, section 7",
			Checks:    "Everything has a backup of the last day at every target, and the newest point that a restore has proven is not older than two rounds of drills.",
			Collector: "backup-age", Version: "1", Every: hour, Fresh: 3 * hour, Timeout: time.Minute,
			Collect: part("age of backups", w.BackupAge, "Nothing is backed up yet.")},
		{ID: "O-30", Title: "Backups are retained for 30 days", Source: "Security policy, section 7",
			Checks:    "The oldest moment that can be restored is as old as the retention promises, or as old as the backups are, and a drill of an old point has passed.",
			Collector: "backup-retention", Version: "1", Every: 6 * hour, Fresh: day, Timeout: time.Minute,
			Collect: part("retention", w.BackupKept, "Nothing is kept yet.")},
		{ID: "O-31", Title: "Backups are stored apart from the primary data", Source: "Security policy, section 7",
			Checks:    "Volume, host, account and supplier of every target differ from those of the data, and its country may hold the data.",
			Collector: "backup-apart", Version: "1", Every: 6 * hour, Fresh: day, Timeout: time.Minute,
			Collect: part("targets", w.BackupApart, "There is no target yet.")},
		{ID: "O-32", Title: "Restoration is tested regularly", Source: "Security policy, section 7",
			Checks:    "From every target a restore was tried within two rounds of the schedule, and what it brought back was proven.",
			Collector: "backup-drills", Version: "1", Every: hour, Fresh: 3 * hour, Timeout: time.Minute,
			Collect: part("drills", w.BackupDrilled, "No restore is tried yet.")},
		{ID: "O-33", Title: "Recovery takes 4 hours and loses 24 hours at most", Source: "Security policy, section 7",
			Checks:    "Recovery time, extrapolated to everything, and data gap of the last drills, measured against the objectives; and what would be lost now.",
			Collector: "backup-objectives", Version: "1", Every: hour, Fresh: 3 * hour, Timeout: time.Minute,
			Collect: part("objectives", w.BackupMeasured, "Nothing is measured yet.")},
		{ID: "O-33.patroni", Title: "The loss of a database server loses nothing that was acknowledged", Source: "Security policy, section 7",
			Checks:    "Patroni is strict and goes on without its store, a standby is in step with the leader, and its REST API refuses old TLS.",
			Collector: "patroni", Version: "1", Every: 5 * time.Minute, Fresh: 15 * time.Minute, Timeout: time.Minute, Collect: w.Patroni},
		{ID: "O-47", Title: "The code repository has off-site backups", Source: "Continuity plan, section 3",
			Checks:    "Every mirror is fresh, and was cloned and checked out in a drill.",
			Collector: "code-mirrors", Version: "1", Every: 6 * hour, Fresh: day, Timeout: time.Minute,
			Collect: part("mirrors", w.CodeMirrors, "No repository of code is mirrored yet.")},
		{ID: "O-48", Title: "Database backups and restoration are tested quarterly", Source: "Continuity plan, section 3",
			Checks:    "The last drill of the database that passed is at most 92 days old.",
			Collector: "backup-quarter", Version: "1", Every: 6 * hour, Fresh: day, Timeout: time.Minute,
			Collect: part("drill of the database", w.BackupQuarter, "No restore of the database is tried yet.")},
		{ID: "O-53", Title: "Recovery is from backup and repository, to a recorded point", Source: "Continuity plan, section 4.1",
			Checks:    "The last drill recorded the point that it recovered, signed, with its hash in the audit log.",
			Collector: "recovered-point", Version: "1", Every: 6 * hour, Fresh: day, Timeout: time.Minute,
			Collect: part("recovered point", w.Restored, "No recovered point is recorded yet.")},
		{ID: "O-56", Title: "Credentials can be reached by the emergency contact", Source: "Continuity plan, section 4.2",
			Checks:    "A current emergency kit lies outside of this node, a restore with nothing but it and shares that people entered was proven within a year, and every opening was reviewed.",
			Collector: "emergency-kit", Version: "1", Every: hour, Fresh: 3 * hour, Timeout: time.Minute,
			Collect: part("emergency kit", w.EmergencyKit, "There is no emergency kit yet.")},
		{ID: "O-57", Title: "The emergency contact is identified, and updated annually", Source: "Continuity plan, section 4.2",
			Checks:    "The kit names contacts, somebody said within a year that they were called and are right, and the continuity plan has a review of them that is not overdue.",
			Collector: "emergency-contacts", Version: "2", Every: 6 * hour, Fresh: day, Timeout: time.Minute,
			Collect: Parts(Part{"contacts", w.Contacts, "There is no emergency kit yet."}, w.planPart("O-57"))},
		{ID: "O-58", Title: "The emergency contact has access and a briefing", Source: "Continuity plan, section 4.2",
			Checks:    "The contact alone restored the node from kit and shares within a year, and the restore was proven.",
			Collector: "contact-drill", Version: "1", Every: 6 * hour, Fresh: day, Timeout: time.Minute,
			Collect: part("drill of the contact", w.ContactDrill, "There is no emergency kit yet.")},
	}
	all = append(all, planControls(w)...)
	slices.SortStableFunc(all, func(a, b Control) int { return strings.Compare(a.ID[:4], b.ID[:4]) })
	if !w.Credential {
		all = slices.DeleteFunc(all, func(c Control) bool { return c.ID == "O-07.credential" })
	}
	if w.Patroni == nil {
		all = slices.DeleteFunc(all, func(c Control) bool { return c.ID == "O-33.patroni" })
	}
	return all
}
