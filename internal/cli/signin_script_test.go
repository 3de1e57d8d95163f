package cli_test

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/totp"
	"github.com/rogpeppe/go-internal/testscript"
)

var secretShown = regexp.MustCompile(`type its secret: (\S+)`)

// accept is somebody who runs `foundry accept` and types what it asks for:
// accept token password [flags]. It sets SECRET, of the authenticator app, and
// RECOVERY, one of the recovery codes.
func accept(ts *testscript.TestScript, neg bool, args []string) {
	program, err := exec.LookPath("foundry")
	ts.Check(err)
	cmd := exec.Command(program, append([]string{"accept", "--json"}, args[2:]...)...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = append(os.Environ(), "HOME="+ts.Getenv("HOME"), "FOUNDRY_DATA_DIR="+ts.Getenv("FOUNDRY_DATA_DIR"))
	in, err := cmd.StdinPipe()
	ts.Check(err)
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	errs, err := cmd.StderrPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	defer func() { _ = cmd.Process.Kill() }()
	_, err = io.WriteString(in, args[0]+"\n"+args[1]+"\n")
	ts.Check(err)
	said := ""
	for lines := bufio.NewScanner(errs); lines.Scan(); {
		said += lines.Text() + "\n"
		if m := secretShown.FindStringSubmatch(lines.Text()); m != nil {
			ts.Setenv("SECRET", m[1])
			now := time.Now()
			ts.Setenv("ENROLLED", strconv.FormatInt(now.Unix(), 10))
			_, err = io.WriteString(in, codeAt(ts, m[1], now)+"\n")
			ts.Check(err)
		}
	}
	var hello struct {
		Codes []string `json:"recovery_codes"`
	}
	err = json.NewDecoder(out).Decode(&hello)
	_, _ = io.Copy(io.Discard, out)
	if waited := cmd.Wait(); waited != nil || err != nil || len(hello.Codes) == 0 {
		ts.Fatalf("accept: %v, %v: %s", waited, err, said)
	}
	ts.Setenv("RECOVERY", hello.Codes[0])
}

// code writes a code of the authenticator app into a file: the one that was
// used to enrol, or one that is later and good now: code file used|next.
func code(ts *testscript.TestScript, neg bool, args []string) {
	seconds, err := strconv.ParseInt(ts.Getenv("ENROLLED"), 10, 64)
	ts.Check(err)
	at := time.Unix(seconds, 0)
	if args[1] == "next" {
		if at = at.Add(30 * time.Second); time.Now().After(at) {
			at = time.Now()
		}
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(codeAt(ts, ts.Getenv("SECRET"), at)+"\n"), 0o600))
}

func codeAt(ts *testscript.TestScript, secret string, at time.Time) string {
	c, err := totp.GenerateCodeCustom(secret, at, totp.ValidateOpts{Period: 30, Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1})
	ts.Check(err)
	return c
}

// lines writes its arguments into a file, one a line: lines file text…
func lines(ts *testscript.TestScript, neg bool, args []string) {
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.Join(args[1:], "\n")+"\n"), 0o600))
}
