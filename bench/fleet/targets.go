//go:build linux

package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// targets is what is watched: a process of its own, so that only watching is
// counted.
type targets struct {
	cmd   *exec.Cmd
	in    io.Closer
	roots string   // file with the authority's certificate
	ports []string // of the pages
	other []string // of the same functions
}

// newTargets starts functions, each a page over TLS and another open port, and
// an SSH server at each host.
func newTargets(dir string, functions int, hosts []string) (*targets, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	t := &targets{cmd: exec.Command(self, append([]string{"targets", strconv.Itoa(functions)}, hosts...)...), roots: filepath.Join(dir, "roots.pem")}
	t.cmd.Stderr = os.Stderr
	if t.in, err = t.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := t.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := t.cmd.Start(); err != nil {
		return nil, err
	}
	var text strings.Builder
	for s := bufio.NewScanner(out); s.Scan(); {
		if list, ok := strings.CutPrefix(s.Text(), "ports "); ok {
			pages, other, _ := strings.Cut(list, " ")
			t.ports, t.other = strings.Split(pages, ","), strings.Split(other, ",")
			break
		}
		text.WriteString(s.Text() + "\n")
	}
	if len(t.ports) != functions || len(t.other) != functions {
		t.close()
		return nil, errors.New("what is to be watched did not start")
	}
	return t, os.WriteFile(t.roots, []byte(text.String()), 0o600)
}

func (t *targets) close() {
	_ = t.in.Close()
	_ = t.cmd.Wait()
}

// plan has every function watched from every member: looked at often, by two
// kinds of probes. They end at two ports, for what ends at one is one kind.
func (t *targets) plan(members int, every string) string {
	var b strings.Builder
	b.WriteString("version: 1\norganisation: {name: Bench, owner: anna, country: FI}\npeople: [{name: anna}]\nnodes:\n")
	for i := range members {
		fmt.Fprintf(&b, "  - {name: node-%d, roles: [fleet]}\n", i+1)
	}
	b.WriteString("functions:\n")
	for i, port := range t.ports {
		fmt.Fprintf(&b, "  - name: f%d\n    mtd: 1 day\n    rto: 4h\n    probes:\n      - {name: page, kind: https, target: \"https://localhost:%s/healthz contains=ok days=7 tls=1.3\", every: %s}\n", i, port, every)
		if every != "30s" {
			fmt.Fprintf(&b, "      - {name: port, kind: tcp, target: \"localhost:%s\", every: %s}\n", t.other[i], every)
		}
	}
	return b.String()
}

// serveTargets runs until its standard input ends.
func serveTargets(ctx context.Context, count string, hosts []string) error {
	functions, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	cert, err := certificate()
	if err != nil {
		return err
	}
	config := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13}
	page := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"status":"ok"}`) })
	var ports, other []string
	for range functions {
		bare, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		_, port, _ := net.SplitHostPort(bare.Addr().String())
		other = append(other, port)
		go drain(bare)
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		_, port, _ = net.SplitHostPort(l.Addr().String())
		ports = append(ports, port)
		s := &http.Server{Handler: page, TLSConfig: config, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute}
		go func() { _ = s.ServeTLS(l, "", "") }()
	}
	for _, h := range hosts {
		if err := serveSSH(ctx, net.JoinHostPort(h, "22")); err != nil {
			return err
		}
	}
	fmt.Print(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})), "ports ", strings.Join(ports, ","), " ", strings.Join(other, ","), "\n")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return nil
}

// drain ends connections as soon as they are made.
func drain(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_ = c.Close()
	}
}

// serveSSH lets nobody in: it is looked at, and no more.
func serveSSH(ctx context.Context, at string) error {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return err
	}
	config := &ssh.ServerConfig{PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) {
		return nil, errors.New("nobody")
	}}
	config.AddHostKey(signer)
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", at)
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _, _, _ = ssh.NewServerConn(c, config)
			}()
		}
	}()
	return nil
}

// certificate is for localhost, and its own authority.
func certificate() (cert tls.Certificate, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return cert, err
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour),
		IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}
