//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// stage is everything that runs during a measurement: two upstreams, the
// references and the node, each a process of its own.
type stage struct {
	dir       string
	apart     bool // the node's vote runs in a process of its own
	ca        []byte
	processes []*child
	subjects  []*subject
	upstreams each  // addresses
	upstream  []int // pids
	node      *node
}

// subject is one gateway in one setting.
type subject struct {
	name    string
	title   string
	pid     int
	workers bool         // its children belong to it (nginx)
	plain   each         // addresses in front of the upstreams
	secure  each         // the same over TLS 1.3
	models  each         // what to ask for
	key     string       // client key
	hides   bool         // leaves out the usage that was not asked for
	expect  [2]expectedT // answers: whole, stream
}

type expectedT struct {
	body  []byte
	first int
}

// The upstreams.
const (
	instant  = iota // answers at once, a stream in one write
	slow            // the same, after slowFirstByte
	flushing        // answers at once, every chunk of a stream in a write of its own, as model servers do
	upstreamKinds
)

// each is an address or a name for each upstream.
type each [upstreamKinds]string

var upstreamNames = each{"instant", "slow", "flushing"}

// slowFirstByte is how long the slow upstream takes to its first byte.
const slowFirstByte = 20 * time.Millisecond

// build starts everything. What was started is stopped by close, also after
// an error.
func (s *stage) build(ctx context.Context, foundry, nginx string) error {
	if err := s.certificate(); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if s.upstreams, err = freeAddresses(); err != nil {
		return err
	}
	for i, argv := range [upstreamKinds][]string{
		instant:  {foundry, "simulator", "--bench", "--listen", s.upstreams[instant]},
		slow:     {foundry, "simulator", "--bench", "--listen", s.upstreams[slow], "--first-byte", slowFirstByte.String()},
		flushing: {self, "upstream", s.upstreams[flushing]},
	} {
		p, err := s.start(ctx, "upstream-"+upstreamNames[i], argv...)
		if err != nil {
			return err
		}
		s.upstream = append(s.upstream, p.cmd.Process.Pid)
	}
	for _, address := range s.upstreams {
		if err := answersAt(ctx, address); err != nil {
			return err
		}
	}
	if err := s.references(ctx, self, nginx); err != nil {
		return err
	}
	if err := s.gateway(ctx, foundry); err != nil {
		return err
	}
	return s.expectations(ctx)
}

func (s *stage) references(ctx context.Context, self, nginx string) error {
	var sets [4]each
	for i := range sets {
		var err error
		if sets[i], err = freeAddresses(); err != nil {
			return err
		}
	}
	config, err := writeNginxConfig(s.dir, sets[0], sets[1], s.upstreams)
	if err != nil {
		return err
	}
	p, err := s.start(ctx, "nginx", nginx, "-c", config)
	if err != nil {
		return err
	}
	s.subjects = append(s.subjects, &subject{name: "nginx", title: "nginx", pid: p.cmd.Process.Pid, workers: true, plain: sets[0], secure: sets[1], models: thirdModels})
	argv := []string{self, "proxy", filepath.Join(s.dir, "tls.crt"), filepath.Join(s.dir, "tls.key")}
	for i, upstream := range s.upstreams {
		argv = append(argv, sets[2][i], sets[3][i], "http://"+upstream)
	}
	if p, err = s.start(ctx, "proxy", argv...); err != nil {
		return err
	}
	s.subjects = append(s.subjects, &subject{name: "go", title: "Go ReverseProxy", pid: p.cmd.Process.Pid, plain: sets[2], secure: sets[3], models: thirdModels})
	return nil
}

func (s *stage) gateway(ctx context.Context, foundry string) error {
	plain, err := freeAddress()
	if err != nil {
		return err
	}
	secure, err := freeAddress()
	if err != nil {
		return err
	}
	config, err := writeNodeConfig(s.dir, secure, plain, s.upstreams)
	if err != nil {
		return err
	}
	if s.node, err = s.startNode(ctx, foundry, config); err != nil {
		return err
	}
	for _, v := range []subject{{name: "third", title: "Foundry, third party", models: thirdModels}, {name: "own", title: "Foundry, own model", models: ownModels}} {
		v.pid, v.key, v.hides = s.node.pid, s.node.key, true
		for i := range upstreamKinds {
			v.plain[i], v.secure[i] = plain, secure
		}
		s.subjects = append(s.subjects, &v)
	}
	return nil
}

// expectations asks the upstream itself what every answer must be.
func (s *stage) expectations(ctx context.Context) error {
	for i, stream := range []bool{false, true} {
		body, err := ask(ctx, "http://"+s.upstreams[0], requestBody(thirdModels[0], stream))
		if err != nil {
			return err
		}
		for _, v := range s.subjects {
			e := expectedT{body: body, first: 1}
			if stream {
				e = expectedStream(body, v.hides)
			}
			v.expect[i] = e
		}
	}
	return nil
}

// expectedStream finds where the first token ends, and leaves out the event
// that only brings the usage if the gateway keeps it from clients that did not
// ask for it.
func expectedStream(stream []byte, hides bool) expectedT {
	var e expectedT
	for event := range bytes.SplitSeq(stream, []byte("\n\n")) {
		if len(event) == 0 || hides && bytes.Contains(event, []byte(`"choices":[],`)) {
			continue
		}
		e.body = append(append(e.body, event...), "\n\n"...)
		if e.first == 0 && bytes.Contains(event, []byte(`"content":"`)) && !bytes.Contains(event, []byte(`"content":""`)) {
			e.first = len(e.body)
		}
	}
	return e
}

func ask(ctx context.Context, base string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/v1/chat/completions", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("asking the upstream: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	return io.ReadAll(resp.Body)
}

// certificate makes one certificate for all, so that nobody signs faster.
func (s *stage) certificate() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(48 * time.Hour), DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	s.ca = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return errors.Join(os.WriteFile(filepath.Join(s.dir, "tls.crt"), s.ca, 0o644),
		os.WriteFile(filepath.Join(s.dir, "tls.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
}

// child is a started process.
type child struct {
	name string
	cmd  *exec.Cmd
	out  io.ReadCloser
	log  string
}

// start starts a process whose errors go to a file in the stage's directory.
func (s *stage) start(ctx context.Context, name string, argv ...string) (*child, error) {
	path := filepath.Join(s.dir, name+".log")
	log, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 45 * time.Second
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	c := &child{name: name, cmd: cmd, out: out, log: path}
	s.processes = append(s.processes, c)
	return c, nil
}

// await reads what the process says when it is ready.
func (c *child) await(read func(io.Reader) error) error {
	err := read(c.out)
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %s", err, c.lastWords())
}

// lastWords is the end of what a process wrote to its log.
func (c *child) lastWords() []byte {
	text, _ := os.ReadFile(c.log)
	return text[max(0, len(text)-2000):]
}

// dead names the processes that ended while they were needed.
func (s *stage) dead() error {
	var err error
	for _, c := range s.processes {
		if p := takeCensus()[c.cmd.Process.Pid]; p.dead {
			err = errors.Join(err, fmt.Errorf("the process %s ended by itself: %v: %s", c.name, c.cmd.Wait(), c.lastWords()))
		}
	}
	return err
}

// close stops what was started, last things first.
func (s *stage) close() {
	for i := len(s.processes) - 1; i >= 0; i-- {
		c := s.processes[i]
		_ = c.cmd.Process.Signal(syscall.SIGTERM)
		_, _ = io.Copy(io.Discard, c.out)
		_ = c.cmd.Wait()
	}
	s.processes = nil
}

// freeAddress finds a port that is free now. Nothing else on the machine
// should be starting servers while it measures.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func freeAddresses() (each, error) {
	var out each
	for i := range out {
		var err error
		if out[i], err = freeAddress(); err != nil {
			return out, err
		}
	}
	return out, nil
}

// answersAt waits until something listens.
func answersAt(ctx context.Context, address string) error {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err == nil {
			return c.Close()
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return fmt.Errorf("nothing answers at %s: %w", address, err)
		}
	}
}
