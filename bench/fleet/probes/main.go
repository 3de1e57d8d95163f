// Command probes measures what it costs a node to watch the functions of a
// plan: processor time, memory, and whether looks come when they should.
//
//	go run ./bench/fleet/probes -for 2m
//
// What is watched runs in a process of its own, so that only the watching is
// counted.
package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/missionopsai/foundry/internal/fleet/probe"
)

func main() {
	functions := flag.Int("functions", 200, "functions that are watched, one page over TLS each")
	every := flag.Duration("every", probe.DefaultEvery, "how often each is looked at")
	length := flag.Duration("for", 2*time.Minute, "how long is measured, after one period of settling")
	down := flag.Int("down", 0, "of the functions, how many refuse")
	hang := flag.Int("hang", 0, "of the functions, how many take connections and say nothing")
	targets := flag.Bool("targets", false, "be what is watched")
	flag.Parse()
	var err error
	if *targets {
		err = serve(*functions, *down, *hang)
	} else {
		err = measure(*functions, *down, *hang, *every, *length)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// serve listens on a port for each function, and prints the authority's
// certificate and the ports.
func serve(functions, down, hang int) error {
	cert, authority, err := certificate()
	if err != nil {
		return err
	}
	config := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13}
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, `{"status":"ok"}`) })
	var ports []string
	for i := range functions {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		_, port, _ := net.SplitHostPort(l.Addr().String())
		ports = append(ports, port)
		switch {
		case i < down:
			l.Close()
		case i < down+hang: // the kernel takes connections; nobody speaks
		default:
			s := &http.Server{Handler: handler, TLSConfig: config, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute}
			go func() { _ = s.ServeTLS(l, "", "") }()
		}
	}
	fmt.Print(string(authority), "ports ", strings.Join(ports, ","), "\n")
	_, _ = io.Copy(io.Discard, os.Stdin) // until the measuring process ends
	return nil
}

// certificate makes an authority and a certificate for localhost, by way of an
// intermediate, as public ones are.
func certificate() (cert tls.Certificate, root []byte, err error) {
	sign := func(n int64, ca bool, parent *x509.Certificate, by *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey, error) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, nil, err
		}
		t := &x509.Certificate{SerialNumber: big.NewInt(n), IsCA: ca, BasicConstraintsValid: true, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour)}
		t.Subject.CommonName = fmt.Sprint("bench ", n)
		if !ca {
			t.DNSNames = []string{"localhost"}
		}
		if parent == nil {
			parent, by = t, key
		}
		der, err := x509.CreateCertificate(rand.Reader, t, parent, &key.PublicKey, by)
		if err != nil {
			return nil, nil, err
		}
		c, err := x509.ParseCertificate(der)
		return c, key, err
	}
	ca, caKey, err := sign(1, true, nil, nil)
	if err != nil {
		return cert, nil, err
	}
	between, betweenKey, err := sign(2, true, ca, caKey)
	if err != nil {
		return cert, nil, err
	}
	leaf, key, err := sign(3, false, between, betweenKey)
	if err != nil {
		return cert, nil, err
	}
	return tls.Certificate{Certificate: [][]byte{leaf.Raw, between.Raw}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw}), nil
}

// targets starts the other process.
func targets(functions, down, hang int) (roots *x509.CertPool, ports []string, stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, nil, err
	}
	cmd := exec.Command(self, "-targets", fmt.Sprint("-functions=", functions), fmt.Sprint("-down=", down), fmt.Sprint("-hang=", hang))
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, nil, nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, nil, err
	}
	var text strings.Builder
	for s := bufio.NewScanner(out); s.Scan(); {
		if list, ok := strings.CutPrefix(s.Text(), "ports "); ok {
			ports = strings.Split(list, ",")
			break
		}
		text.WriteString(s.Text() + "\n")
	}
	roots = x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(text.String())) || len(ports) != functions {
		return nil, nil, nil, fmt.Errorf("what is to be watched did not start")
	}
	return roots, ports, func() { in.Close(); _ = cmd.Wait() }, nil
}

func measure(functions, down, hang int, every, length time.Duration) error {
	roots, ports, stop, err := targets(functions, down, hang)
	if err != nil {
		return err
	}
	defer stop()
	dir, err := os.MkdirTemp("", "foundry-bench-probes-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	history, err := probe.OpenHistory(probe.HistoryOptions{Path: filepath.Join(dir, "history")})
	if err != nil {
		return err
	}
	var looks, good atomic.Int64
	r := probe.NewRunner(probe.RunnerOptions{Env: probe.Env{Roots: roots}, History: history, Tell: func(r probe.Result) {
		looks.Add(1)
		if r.OK {
			good.Add(1)
		}
	}})
	var specs []probe.Spec
	for i, port := range ports {
		specs = append(specs, probe.Spec{Name: fmt.Sprint("f", i, "/page"), Function: fmt.Sprint("f", i), Kind: probe.HTTPS, Every: every,
			Target: "https://localhost:" + port + "/healthz contains=ok days=7 tls=1.3"})
	}
	if err := r.Set(specs); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { _ = r.Run(ctx); close(ended) }()
	<-time.After(every)
	before, began := processor(), time.Now()
	looks.Store(0)
	good.Store(0)
	<-time.After(length)
	used, took := processor()-before, time.Since(began)
	n, ok := looks.Load(), good.Load()
	cancel()
	<-ended
	if err := history.Close(); err != nil {
		return err
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	fmt.Printf("%d functions every %s (%d refuse, %d hang), %s measured\n", functions, every, down, hang, took.Round(time.Second))
	fmt.Printf("  looks told     %d, %d good (%.1f a second)\n", n, ok, float64(n)/took.Seconds())
	fmt.Printf("  processor      %.2f %% of one core, %.2f ms a look\n", 100*used.Seconds()/took.Seconds(), 1000*used.Seconds()/float64(max(n, 1)))
	fmt.Printf("  memory         %.1f MB of heap in use, %.1f MB resident\n", float64(m.HeapInuse)/1e6, resident())
	return nil
}

// processor is the time that this process has used.
func processor() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// resident is the memory of this process in MB, where the system says it.
func resident() float64 {
	text, err := os.ReadFile("/proc/self/statm")
	var size, pages float64
	if _, scan := fmt.Sscan(string(text), &size, &pages); err != nil || scan != nil {
		return 0
	}
	return pages * float64(os.Getpagesize()) / 1e6
}
