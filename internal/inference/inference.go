// Package inference knows how to stand in front of an Ollama: only nodes with
// a certificate reach it, only for what a gateway asks of it, one after the
// other when it is busy, and everybody is told how long that takes.
//
// An Ollama has no authentication of its own: whoever reaches it can read,
// change and remove its models. So it listens on loopback, and this front is
// the only way to it.
package inference

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/problem"
)

// Config is what an operator writes about the front of an Ollama.
type Config struct {
	Listen      string          `yaml:"listen,omitempty" json:"listen,omitempty" jsonschema:"description=Address that gateways reach by mutual TLS 1.3. Default 0.0.0.0:11443."`
	Ollama      string          `yaml:"ollama,omitempty" json:"ollama,omitempty" jsonschema:"description=Root of the Ollama on this machine\\, at a loopback address. Default http://127.0.0.1:11434."`
	Certificate string          `yaml:"certificate,omitempty" json:"certificate,omitempty" jsonschema:"description=PEM file with this node's certificate and its chain. Default: the fleet's."`
	Key         config.Secret   `yaml:"key,omitempty" json:"key,omitzero"`
	ClientCA    string          `yaml:"client_ca,omitempty" json:"client_ca,omitempty" jsonschema:"description=PEM file of the authority whose certificates gateways show. Default: the fleet's."`
	Clients     []string        `yaml:"clients,omitempty" json:"clients,omitempty" jsonschema:"description=Names that a gateway's certificate must have one of. Default: every certificate of the authority."`
	Concurrency int             `yaml:"concurrency,omitempty" json:"concurrency,omitempty" jsonschema:"minimum=1,maximum=1024,description=Requests that the Ollama answers at once. Default 4."`
	Queue       int             `yaml:"queue,omitempty" json:"queue,omitempty" jsonschema:"minimum=1,maximum=100000,description=Requests that wait; more are refused at once. Default 64."`
	Wait        config.Duration `yaml:"wait,omitempty" json:"wait,omitzero" jsonschema:"type=string,description=How long a request waits at most. Default 30s."`
	BodyBytes   int64           `yaml:"body_bytes,omitempty" json:"body_bytes,omitempty" jsonschema:"description=Largest request body. Default 33554432 (32 MiB)."`
	BodyMemory  int64           `yaml:"body_memory,omitempty" json:"body_memory,omitempty" jsonschema:"description=Bytes of request bodies held at once. Default 268435456 (256 MiB)."`
}

const (
	defaultListen      = "0.0.0.0:11443"
	defaultOllama      = "http://127.0.0.1:11434"
	defaultConcurrency = 4
	defaultQueue       = 64
	defaultWait        = 30 * time.Second
	defaultBody        = 32 << 20
	defaultMemory      = 256 << 20
)

// Validate reports the first thing that cannot work. It connects to nothing.
func (c Config) Validate() error {
	c = c.withDefaults()
	if _, err := c.ollama(); err != nil {
		return err
	}
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		return problem.New(problem.Invalid, "inference-listen", fmt.Sprintf("%q is not an address to listen on.", c.Listen)).
			WithField("inference.listen").WithMend("Write host:port, for example 10.0.0.5:11443.")
	}
	if given := []bool{c.Certificate != "", c.Key.Set(), c.ClientCA != ""}; given[0] != given[1] || given[0] != given[2] {
		return problem.New(problem.Invalid, "inference-tls-half", "A certificate, its key and the authority of the gateways' certificates come together.").
			WithField("inference").WithMend("Give certificate, key and client_ca, or none of them to use the fleet's.")
	}
	if c.Concurrency < 1 || c.Queue < 1 || c.Wait < 0 || c.BodyBytes < 1 || c.BodyMemory < c.BodyBytes {
		return problem.New(problem.Invalid, "inference-bounds", "A bound of the queue is negative, or body_memory is smaller than body_bytes.").
			WithField("inference").WithMend("Leave concurrency, queue, wait, body_bytes and body_memory out to have their defaults.")
	}
	return nil
}

func (c Config) withDefaults() Config {
	text := func(to *string, value string) {
		if *to == "" {
			*to = value
		}
	}
	number := func(to *int, value int) {
		if *to == 0 {
			*to = value
		}
	}
	large := func(to *int64, value int64) {
		if *to == 0 {
			*to = value
		}
	}
	text(&c.Listen, defaultListen)
	text(&c.Ollama, defaultOllama)
	number(&c.Concurrency, defaultConcurrency)
	number(&c.Queue, defaultQueue)
	large(&c.BodyBytes, defaultBody)
	large(&c.BodyMemory, defaultMemory)
	c.Wait = config.Duration(c.Wait.Or(defaultWait))
	return c
}

// ollama is where the Ollama is: at a loopback address, or it would be
// reached over a network without any protection.
func (c Config) ollama() (*url.URL, error) {
	u, err := url.Parse(c.Ollama)
	if err != nil || u.Scheme != "http" || u.Port() == "" || u.User != nil || u.RawQuery != "" || u.Path != "" && u.Path != "/" {
		return nil, problem.New(problem.Invalid, "inference-ollama", fmt.Sprintf("%q is not the root of an Ollama.", c.Ollama)).
			WithField("inference.ollama").WithMend("Write http://127.0.0.1:11434, with the port that it listens on.")
	}
	ip := net.ParseIP(u.Hostname())
	if u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, problem.New(problem.Denied, "inference-ollama-remote", fmt.Sprintf("The Ollama at %s is not on this machine's loopback.", u.Host)).
			WithField("inference.ollama").WithMend("Run this role on the machine of the Ollama, and let that listen on 127.0.0.1 only.")
	}
	return u, nil
}

// Options start a front.
type Options struct {
	Config  Config
	Version string
	// TLS has the certificates of the fleet: Certificates or GetCertificate,
	// ClientCAs, and VerifyConnection if there is more to check. It is used
	// where Config names no files; what it says about versions and about
	// whether clients need a certificate does not count.
	TLS     TLS
	Machine Machine // how GPU and memory are read; the zero value reads this machine
	Log     *slog.Logger
	Clock   func() time.Time
}

// Front is a running front.
type Front struct {
	o        Options
	config   Config
	target   *url.URL
	queue    *queue
	client   *http.Transport
	server   *http.Server
	listener net.Listener
	watch    watcher
	memory   budget
	stop     context.CancelFunc
	running  sync.WaitGroup
	failed   chan error
}

// Start checks that the Ollama is reached over loopback only, and begins to
// answer gateways. An Ollama that does not run yet is no error: the front says
// so in its health until it does.
func Start(ctx context.Context, o Options) (*Front, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if err := o.Config.Validate(); err != nil {
		return nil, err
	}
	c := o.Config.withDefaults()
	target, err := c.ollama()
	if err != nil {
		return nil, err
	}
	secure, err := serverTLS(c, o.TLS, o.Log)
	if err != nil {
		return nil, err
	}
	f := &Front{o: o, config: c, target: target, queue: newQueue(c.Concurrency, c.Queue, o.Clock), memory: budget{limit: c.BodyMemory}, failed: make(chan error, 1)}
	if err := f.exposed(ctx); err != nil {
		return nil, err
	}
	plain, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return nil, problem.New(problem.Unavailable, "address-unusable", fmt.Sprintf("Cannot listen on %s.", c.Listen)).
			WithField("inference.listen").WithMend("Stop what listens there, or choose another address.").Wrap(err)
	}
	f.listener = plain
	f.client = &http.Transport{DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext, DisableCompression: true,
		MaxIdleConnsPerHost: c.Concurrency + 2, IdleConnTimeout: time.Minute, Proxy: nil}
	f.watch.init(f)
	life, stop := context.WithCancel(context.Background())
	f.stop = stop
	f.server = &http.Server{Handler: f.handler(), TLSConfig: secure, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug), Protocols: new(http.Protocols)}
	f.server.Protocols.SetHTTP1(true)
	f.running.Go(func() { f.watch.run(life) })
	f.running.Go(func() {
		if err := f.server.ServeTLS(plain, "", ""); err != nil && !errors.Is(err, http.ErrServerClosed) {
			f.failed <- fmt.Errorf("listening on %s ended: %w", c.Listen, err)
		}
	})
	o.Log.Info("standing in front of an Ollama", "address", plain.Addr().String(), "ollama", target.Host, "concurrency", c.Concurrency, "queue", c.Queue)
	return f, nil
}

// Address is what the front listens on.
func (f *Front) Address() string { return f.listener.Addr().String() }

// Wait blocks until ctx ends or the front cannot go on.
func (f *Front) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-f.failed:
		return err
	}
}

// Stop takes no more requests, sends those that wait elsewhere, and lets those
// that are being answered finish until ctx ends. Then it cuts them, which
// their gateways see as broken off, never as complete.
func (f *Front) Stop(ctx context.Context) error {
	f.queue.close()
	err := f.server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		err = f.server.Close()
	}
	f.stop()
	f.running.Wait()
	f.client.CloseIdleConnections()
	f.o.Log.Info("no longer in front of the Ollama")
	return err
}
