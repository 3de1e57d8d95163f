package db

import "errors"

// What tests of other packages' names need to see.
var (
	MigrateFS    = migrate
	Load         = load
	Choose       = choose
	Diagnose     = diagnose
	ParsePidFile = parsePidFile
	CheckDSN     = checkDSN
	Recent       = recent
)

// Server is an installed server.
func Server(dir string, major int) server { return server{dir, major} }

// Checksum returns the recorded form of a migration's checksum.
func (m migration) Checksum() string { return m.checksum }

// PID returns the process id in a parsed postmaster.pid.
func PID(p pidFile) int { return p.pid }

// Installed is an installed server.
type Installed = server

// InstalledIn returns where it is.
func InstalledIn(s server) string { return s.dir }

const MigrationLock = migrationLock

// SignsInAs returns the user and the options a role would connect with.
func SignsInAs(c Config, role Role) (user, options string, err error) {
	pc, err := c.withDefaults().pool(role)
	if err != nil {
		return "", "", err
	}
	return pc.ConnConfig.User, pc.ConnConfig.RuntimeParams["options"], nil
}

// Flap makes the database be away for a moment.
func (d *DB) Flap() {
	d.enter(false, errors.New("flapping"))
	d.enter(true, nil)
}

// ReadSent reads what a server sends to a standby.
var ReadSent = readSent

// ParseLSN reads a place in the log.
var ParseLSN = parseLSN
