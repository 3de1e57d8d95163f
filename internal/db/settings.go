package db

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// superuser is the bootstrap superuser of a private cluster. It signs in to
// nothing: roles are made in single-user mode, before the server listens.
const superuser = "foundry_bootstrap"

// databaseName is the database of a private cluster.
const databaseName = "foundry"

// serverSettings are for a small server that also runs the gateway.
func serverSettings(l layout) map[string]string {
	return map[string]string{
		"listen_addresses":        "",
		"port":                    l.port, // only names the socket, unless there is a door
		"unix_socket_directories": l.run,
		"unix_socket_permissions": "0700",
		"hba_file":                filepath.Join(l.etc, "pg_hba.conf"),
		"ident_file":              filepath.Join(l.etc, "pg_ident.conf"),

		"max_connections":                 "60",
		"shared_buffers":                  "96MB",
		"effective_cache_size":            "512MB",
		"work_mem":                        "8MB",
		"maintenance_work_mem":            "64MB",
		"max_worker_processes":            "4",
		"max_parallel_workers_per_gather": "0", // two cores are for many short queries
		"jit":                             "off",

		"wal_level":                    "replica", // base backups and archiving need it
		"synchronous_commit":           "on",      // the journal forgets what was committed
		"wal_compression":              "on",
		"max_wal_senders":              "4",
		"min_wal_size":                 "80MB",
		"max_wal_size":                 "512MB",
		"checkpoint_timeout":           "5min", // bounds recovery after a crash
		"checkpoint_completion_target": "0.9",

		"logging_collector":        "on",
		"log_directory":            l.log,
		"log_filename":             "postgresql-%a.log", // a week, each day over the one a week ago
		"log_truncate_on_rotation": "on",
		"log_rotation_age":         "1d",
		"log_rotation_size":        "0",
		"log_file_mode":            "0600",
		"log_line_prefix":          "%m [%p] %q%u ",
		"log_timezone":             "UTC",
		"timezone":                 "UTC",
		"lc_messages":              "C", // start-up failures are recognised by their text
		"log_checkpoints":          "off",
		// Statements and their parameters hold clients' data, and so does the
		// DETAIL of an error ("Key (name)=(...) already exists").
		"log_statement":                     "none",
		"log_min_error_statement":           "panic",
		"log_min_duration_statement":        "-1",
		"log_parameter_max_length":          "0",
		"log_parameter_max_length_on_error": "0",
		"log_error_verbosity":               "terse",
	}
}

// writeSettings writes the configuration files, outside the data directory and
// out of the server's reach.
func writeSettings(l layout, who account, osUser string, o ClusterOptions) error {
	settings := serverSettings(l)
	maps.Copy(settings, o.Archive.settings(l.data))
	outside, err := o.Door.settings(l)
	if err != nil {
		return err
	}
	maps.Copy(settings, outside)
	if o.Watchdog != nil {
		settings["synchronous_standby_names"] = string(Countersigner)
	}
	if err := o.Door.place(l, who); err != nil {
		return err
	}
	maps.Copy(settings, o.Settings)
	var conf strings.Builder
	conf.WriteString("# Written by Foundry at every start: changes here are lost.\n")
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&conf, "%s = '%s'\n", name, quoteSetting(settings[name]))
	}
	if err := replaceFile(filepath.Join(l.etc, "postgresql.conf"), conf.String(), who.gid); err != nil {
		return err
	}
	return writeAccess(l, who, osUser, o)
}

// writeAccess writes who may come in.
func writeAccess(l layout, who account, osUser string, o ClusterOptions) error {
	var ident strings.Builder
	names := []string{}
	for _, role := range Roles {
		names = append(names, string(role))
	}
	hba := "# Only the user that runs Foundry, known by the kernel, and only as Foundry's roles;\n# and the server's own user, only to back it up.\n"
	if o.Superuser {
		names = append(names, superuser)
	} else {
		hba += "local all " + superuser + " reject\n"
	}
	hba += fmt.Sprintf("local %s %s peer map=foundry\nlocal all %s reject\n", MaintenanceDatabase, Backup, Backup)
	if o.Watchdog != nil {
		hba += fmt.Sprintf("local replication %s peer map=foundry\n", Countersigner)
		fmt.Fprintf(&ident, "foundry \"%s\" %s\n", osUser, Countersigner)
	}
	hba += fmt.Sprintf("local all %s reject\n", Countersigner) + "local all all peer map=foundry\n" + o.Door.hba()
	for _, name := range names {
		fmt.Fprintf(&ident, "foundry \"%s\" %s\n", osUser, name)
	}
	fmt.Fprintf(&ident, "foundry \"%s\" %s\n", who.name, Backup)
	if o.Door != nil {
		ident.WriteString(o.Door.ident())
	}
	for name, text := range map[string]string{"pg_hba.conf": hba, "pg_ident.conf": ident.String()} {
		if err := replaceFile(filepath.Join(l.etc, name), text, who.gid); err != nil {
			return err
		}
	}
	return nil
}

func quoteSetting(v string) string {
	return strings.NewReplacer(`\`, `\\`, `'`, `''`, "\n", `\n`).Replace(v)
}

// replaceFile writes a file whole or not at all, readable by the server's group.
func replaceFile(path, text string, gid int) error {
	next := path + ".new"
	if err := os.WriteFile(next, []byte(text), 0o640); err != nil {
		return fileProblem(path, err)
	}
	if err := os.Chown(next, -1, gid); err != nil {
		return fileProblem(path, err)
	}
	if err := os.Rename(next, path); err != nil {
		return fileProblem(path, err)
	}
	return nil
}
