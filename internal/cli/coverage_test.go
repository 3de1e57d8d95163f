package cli_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/missionopsai/foundry/internal/cli"
)

func trusting(pem []byte) *http.Transport {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	return &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
}

// Every command and every flag that the reference shows is used by a script.
func TestEveryCommandAndFlagIsUsedByAScript(t *testing.T) {
	var reference, errw bytes.Buffer
	if code := cli.Run("v0.0.0-test", []string{"reference", "cli"}, nil, &reference, &errw); code != 0 {
		t.Fatal(errw.String())
	}
	var lines []string
	files, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			// A node of a script is `foundry up`.
			line = regexp.MustCompile(`^node\b`).ReplaceAllString(line, "foundry up --data-dir d --https a --http b")
			if !strings.HasPrefix(line, "#") {
				lines = append(lines, line)
			}
		}
	}
	used := func(words ...string) bool {
		for _, line := range lines {
			all := true
			for _, w := range words {
				all = all && regexp.MustCompile(`(^|\s)`+regexp.QuoteMeta(w)+`(\s|=|$)`).MatchString(line)
			}
			if all {
				return true
			}
		}
		return false
	}
	sections := strings.Split(reference.String(), "\n## ")
	flagLine := regexp.MustCompile(`(?m)^\s+(?:-\w, )?(--[a-z-]+)`)
	commands := 0
	for _, s := range sections[1:] {
		name, body, _ := strings.Cut(s, "\n")
		if strings.Contains(s, name+" [command]") {
			continue
		}
		commands++
		if !used(name) {
			t.Errorf("no script runs `%s`", name)
		}
		own, _, _ := strings.Cut(body, "### Options inherited")
		for _, m := range flagLine.FindAllStringSubmatch(own, -1) {
			if m[1] != "--help" && !used(name, m[1]) {
				t.Errorf("no script runs `%s %s`", name, m[1])
			}
		}
	}
	if commands < 20 {
		t.Errorf("the reference shows only %d commands", commands)
	}
}
