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
			_, err = io.WriteString(in, codeAt(ts, m[1], 0)+"\n")
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

// code writes what the authenticator app shows, so many steps of 30 seconds
// from now, into a file: code file steps.
func code(ts *testscript.TestScript, neg bool, args []string) {
	steps, err := strconv.Atoi(args[1])
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(codeAt(ts, ts.Getenv("SECRET"), steps)+"\n"), 0o600))
}

func codeAt(ts *testscript.TestScript, secret string, steps int) string {
	c, err := totp.GenerateCodeCustom(secret, time.Now().Add(time.Duration(steps)*30*time.Second),
		totp.ValidateOpts{Period: 30, Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1})
	ts.Check(err)
	return c
}

// lines writes its arguments into a file, one a line: lines file text…
func lines(ts *testscript.TestScript, neg bool, args []string) {
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.Join(args[1:], "\n")+"\n"), 0o600))
}
