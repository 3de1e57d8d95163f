package db

import (
	"fmt"
	"strings"
)

// purpose says in a word what each role is for.
var purpose = map[Role]string{
	Migrator:  "owns the schema; signs in only to migrate",
	App:       "sees one organisation at a time",
	Shipper:   "only inserts",
	Reader:    "sees every organisation and writes nothing",
	Sequencer: "orders the audit log",
}

const attributes = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"

// roleStatements make the roles, and set right those that exist.
func roleStatements() []string {
	var all []string
	for _, role := range Roles {
		all = append(all,
			fmt.Sprintf("DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '%[1]s') THEN CREATE ROLE %[1]s; END IF; END $$", role),
			fmt.Sprintf("ALTER ROLE %s WITH %s", role, attributes),
			fmt.Sprintf("COMMENT ON ROLE %s IS 'Foundry: %s'", role, purpose[role]))
	}
	for _, role := range Roles {
		all = append(all, quietStatement(role))
	}
	return append(all, fmt.Sprintf("ALTER ROLE %s SET default_transaction_read_only = on", Reader))
}

// quietStatement keeps what the roles send out of the server's log, where
// clients' data must not be: an error quotes the value it stumbled over
// ("invalid input syntax for type uuid: ..."). Foundry sees these errors
// itself. A managed service may not allow it: then it is left to the service.
func quietStatement(role Role) string {
	var set strings.Builder
	for _, s := range []string{"log_min_messages = log", "log_min_error_statement = panic", "log_statement = none",
		"log_min_duration_statement = -1", "log_parameter_max_length = 0", "log_error_verbosity = terse"} {
		fmt.Fprintf(&set, " ALTER ROLE %s SET %s;", role, s)
	}
	return "DO $$ BEGIN" + set.String() + " EXCEPTION WHEN insufficient_privilege THEN RAISE NOTICE 'the log of the server may quote statements'; END $$"
}

// databaseStatements make the database. Nobody but the roles may connect, and
// nobody may make temporary tables, which could hide real ones.
func databaseStatements(name string) []string {
	return append([]string{fmt.Sprintf("CREATE DATABASE %s OWNER %s TEMPLATE template0 ENCODING 'UTF8'", name, Migrator)},
		grantStatements(name)...)
}

func grantStatements(name string) []string {
	return []string{
		fmt.Sprintf("REVOKE ALL ON DATABASE %s FROM PUBLIC", name),
		fmt.Sprintf("GRANT CONNECT ON DATABASE %s TO %s", name, roleList()),
	}
}

func roleList() string {
	names := make([]string, len(Roles))
	for i, role := range Roles {
		names[i] = string(role)
	}
	return strings.Join(names, ", ")
}

// RolesSQL returns what a database administrator runs once, with psql, on an
// external server. Foundry itself never signs in there as a superuser.
func RolesSQL() string {
	var b strings.Builder
	b.WriteString("-- Foundry's roles and database, for PostgreSQL " + fmt.Sprint(MinimumMajor) + " or newer.\n" +
		"-- Run it once with psql as an administrator; running it again does no harm:\n" +
		"--   psql -v ON_ERROR_STOP=1 -f roles.sql postgres\n\n")
	for _, s := range roleStatements() {
		b.WriteString(s + ";\n")
	}
	create := databaseStatements(databaseName)[0]
	fmt.Fprintf(&b, "\nSELECT $$%s$$\n  WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '%s') \\gexec\n", create, databaseName)
	for _, s := range grantStatements(databaseName) {
		b.WriteString(s + ";\n")
	}
	b.WriteString("\n-- Then give each role a password of its own, without writing it into a file:\n")
	for _, role := range Roles {
		fmt.Fprintf(&b, "--   \\password %s\n", role)
	}
	return b.String()
}
