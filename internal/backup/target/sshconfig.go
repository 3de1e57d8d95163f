package target

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/missionopsai/foundry/internal/problem"
)

// SSHAlias is the only host that an [SSHClient.Config] knows.
const SSHAlias = "foundry-target"

// SSHClient is what OpenSSH's client needs to reach one server as one user.
type SSHClient struct {
	Host       string
	Port       int
	User       string
	KeyFile    string // private key without a passphrase
	KnownHosts string // file with the server's pinned key
}

// What may stand in a configuration of ssh without being more than a value:
// no space, quote, percent sign or leading dash (ssh_config(5), TOKENS).
var (
	sshHost = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:-]{0,252}$`)
	sshUser = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._@+-]{0,63}$`)
	sshPath = regexp.MustCompile(`^/[^"%\\$~\x00-\x1f\x7f]*$`)
)

// Config is the text of a configuration file for ssh -F that reaches the
// server as [SSHAlias] and does nothing else: one key, one pinned host key, no
// agent, no forwarding, no question, no other file. Nothing in it comes from a
// command line, so nothing that a person wrote ever reaches one.
func (c SSHClient) Config() (string, error) {
	for _, v := range []struct {
		what, value string
		rule        *regexp.Regexp
	}{{"host", c.Host, sshHost}, {"user", c.User, sshUser}, {"key file", c.KeyFile, sshPath}, {"known_hosts file", c.KnownHosts, sshPath}} {
		if !v.rule.MatchString(v.value) {
			return "", problem.New(problem.Invalid, "ssh-value", "This is not a usable SSH "+v.what+": "+strconv.Quote(v.value)+".").
				WithMend("Use a plain name or address, and paths without quotes, percent signs or backslashes.")
		}
	}
	port := c.Port
	if port == 0 {
		port = 22
	}
	lines := []string{
		"Host " + SSHAlias, "HostName " + c.Host, "Port " + strconv.Itoa(port), "User " + c.User,
		`IdentityFile "` + c.KeyFile + `"`, "IdentitiesOnly yes", "IdentityAgent none", "PreferredAuthentications publickey",
		`UserKnownHostsFile "` + c.KnownHosts + `"`, "GlobalKnownHostsFile /dev/null", "StrictHostKeyChecking yes", "UpdateHostKeys no", "CheckHostIP no",
		"BatchMode yes", "PasswordAuthentication no", "KbdInteractiveAuthentication no", "ForwardAgent no", "ForwardX11 no", "ClearAllForwardings yes",
		"PermitLocalCommand no", "ControlMaster no", "ControlPath none", "RequestTTY no", "LogLevel ERROR",
		"ConnectTimeout 20", "ServerAliveInterval 15", "ServerAliveCountMax 4",
	}
	return strings.Join(lines, "\n") + "\n", nil
}
