package target

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
)

// S3 speaks the part of the S3 protocol that single objects and a look at a
// bucket take. Engines speak it by themselves.
type S3 struct {
	t      Target
	client *http.Client
	now    func() time.Time
}

// S3Request is one request. An empty bucket means the target's.
type S3Request struct {
	Method, Bucket, Key string
	Query               map[string]string
	Header              http.Header
	Body                []byte
}

// maxS3Answer bounds what is read of an answer that is not an object.
const maxS3Answer = 8 << 20

// NewS3 prepares to speak to a target's bucket. Nothing is sent yet.
func NewS3(t Target) (*S3, error) {
	if t.S3 == nil {
		return nil, problem.New(problem.Invalid, "target-kind", "The target "+t.Name+" is not a bucket.")
	}
	tc := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.S3.CA != "" {
		text, err := os.ReadFile(t.S3.CA)
		tc.RootCAs = x509.NewCertPool()
		if err != nil || !tc.RootCAs.AppendCertsFromPEM(text) {
			return nil, problem.New(problem.Invalid, "target-ca", "The authority of the target "+t.Name+" cannot be read: "+t.S3.CA+".").
				WithField("s3.ca").WithMend("Name a PEM file with its certificate, or leave it out to use those of the system.").Wrap(err)
		}
	}
	return &S3{t: t, now: time.Now, client: &http.Client{
		Transport: &http.Transport{
			TLSClientConfig: tc, TLSHandshakeTimeout: 15 * time.Second, ResponseHeaderTimeout: time.Minute, IdleConnTimeout: 30 * time.Second,
			MaxIdleConnsPerHost: 2, DialContext: (&net.Dialer{Timeout: 15 * time.Second}).DialContext,
		},
		// A signature is for one host; a bucket that moved is a mistake to be named.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Close gives the connections back.
func (s *S3) Close() error { s.client.CloseIdleConnections(); return nil }

// Do sends one signed request. An answer outside 2xx is a *problem.Error.
func (s *S3) Do(ctx context.Context, r S3Request) (*http.Response, error) {
	u := s.address(r)
	req, err := http.NewRequestWithContext(ctx, r.Method, u.String(), bytes.NewReader(r.Body))
	if err != nil {
		return nil, problem.New(problem.Invalid, "target-endpoint", "The endpoint of the target "+s.t.Name+" is not an address.").WithField("s3.endpoint").Wrap(err)
	}
	for name, values := range r.Header {
		req.Header[http.CanonicalHeaderKey(name)] = values
	}
	if len(r.Body) > 0 { // asked for by buckets with object lock
		sum := md5.Sum(r.Body)
		req.Header.Set("Content-MD5", base64.StdEncoding.EncodeToString(sum[:]))
	}
	body := sha256.Sum256(r.Body)
	signS3(req, signing{key: s.t.S3Key, secret: s.t.S3Secret, region: s.region(), service: "s3", at: s.now(), body: hex.EncodeToString(body[:])})
	answer, err := s.client.Do(req)
	if err != nil {
		return nil, s.unreachable(ctx, err)
	}
	if answer.StatusCode >= 200 && answer.StatusCode < 300 {
		return answer, nil
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(answer.Body, 64<<10))
	return nil, s.explain(answer, text)
}

func (s *S3) region() string {
	if s.t.S3.Region == "" {
		return "us-east-1"
	}
	return s.t.S3.Region
}

// address is where a bucket or an object is, encoded as its signature expects.
func (s *S3) address(r S3Request) *url.URL {
	bucket := r.Bucket
	if bucket == "" {
		bucket = s.t.S3.Bucket
	}
	u := &url.URL{Scheme: "https", Host: s.t.S3.Endpoint, Path: "/" + r.Key}
	if s.t.S3.Style == "host" {
		u.Host = bucket + "." + u.Host
	} else {
		u.Path = "/" + bucket + u.Path
		if r.Key == "" {
			u.Path = "/" + bucket
		}
	}
	u.RawPath = s3Escape(u.Path, true)
	var query []string
	for k, v := range r.Query {
		query = append(query, s3Escape(k, false)+"="+s3Escape(v, false))
	}
	slices.Sort(query)
	u.RawQuery = strings.Join(query, "&")
	return u
}

func (s *S3) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if why := certificateProblem(err); why != "" {
		return problem.New(problem.Upstream, "target-certificate", "The certificate of the target "+s.t.Name+" is not trusted: "+why+".").
			WithField("s3.ca").WithMend("Name the PEM file of its authority in s3.ca, or correct s3.endpoint.").Wrap(err)
	}
	return gone(s.t.Name, "s3.endpoint", err)
}

func certificateProblem(err error) string {
	for _, known := range []string{"certificate signed by unknown authority", "certificate has expired", "certificate is not valid for", "certificate is valid for", "doesn't contain any IP SANs"} {
		if strings.Contains(err.Error(), known) {
			return known
		}
	}
	return ""
}

// s3Error is the body of an answer that says no.
type s3Error struct {
	Code    string `xml:"Code"`
	Message string `xml:"Message"`
	Region  string `xml:"Region"`
}

func parseS3Error(text []byte) (e s3Error) {
	_ = xml.Unmarshal(text, &e) // a body that is no XML says nothing
	if len(e.Code) > 64 {
		e.Code = ""
	}
	return e
}

// explain turns an answer into what to do about it.
func (s *S3) explain(a *http.Response, text []byte) error {
	e := parseS3Error(text)
	name := s.t.Name
	cause := fmt.Errorf("S3 answered %d %s", a.StatusCode, e.Code)
	switch {
	case e.Code == "NoSuchBucket" || a.StatusCode == 404 && e.Code == "" && a.Request.Method == http.MethodHead:
		return problem.New(problem.NotFound, "target-bucket-missing", "The bucket "+s.t.S3.Bucket+" of the target "+name+" does not exist.").
			WithField("s3.bucket").WithMend("Create it with object lock and versions on, or correct its name.").Wrap(cause)
	case e.Code == "NoSuchKey" || e.Code == "NoSuchVersion" || a.StatusCode == 404 && e.Code == "":
		return fileMissing(name).Wrap(cause)
	case e.Code == "InvalidAccessKeyId" || e.Code == "SignatureDoesNotMatch" || e.Code == "ExpiredToken" || e.Code == "XAdminUserNotFound": // the last is versitygw's
		return problem.New(problem.Unauthenticated, "target-credentials", "The target "+name+" does not accept these credentials.").
			WithField("s3.key").WithMend("Check s3.key and s3.secret, and whether the account still has them.").Wrap(cause)
	case e.Code == "RequestTimeTooSkewed":
		return problem.New(problem.Upstream, "target-clock", "The clock of this machine and that of the target "+name+" differ too much.").
			WithMend("Set this machine's clock; run a time service.").Wrap(cause)
	case e.Code == "AuthorizationHeaderMalformed" || e.Code == "PermanentRedirect" || a.StatusCode >= 300 && a.StatusCode < 400:
		return problem.New(problem.Invalid, "target-region", "The bucket of the target "+name+" is in another region or at another endpoint.").
			WithField("s3.region").WithMend("Correct s3.region and s3.endpoint.").Wrap(cause)
	case isFull(e.Code, a.StatusCode):
		return full(name).Wrap(cause)
	case a.StatusCode == 401 || a.StatusCode == 403:
		return denied(name, "The credentials may not "+verb(a.Request.Method)+" there.").Wrap(cause)
	case a.StatusCode >= 500 || a.StatusCode == 429:
		return gone(name, "s3.endpoint", cause)
	}
	return problem.New(problem.Upstream, "target-refused", fmt.Sprintf("The target %s refuses: %d %s.", name, a.StatusCode, e.Code)).
		WithMend("The supplier's documentation says what this code means.").Wrap(cause)
}

func isFull(code string, status int) bool {
	return status == http.StatusInsufficientStorage || slices.Contains([]string{"QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "ServiceQuotaExceeded", "StorageFull"}, code)
}

func verb(method string) string {
	switch method {
	case http.MethodPut, http.MethodPost:
		return "write"
	case http.MethodDelete:
		return "delete"
	}
	return "read"
}

// key is where a file's object is.
func (s *S3) key(name string) string { return s3Key(s.t.Path, name) }

func s3Key(prefix, name string) string {
	return strings.TrimPrefix(path.Join("/", prefix)+"/"+name, "/")
}

type listing struct {
	Contents []struct {
		Key          string    `xml:"Key"`
		Size         int64     `xml:"Size"`
		LastModified time.Time `xml:"LastModified"`
	} `xml:"Contents"`
	IsTruncated bool   `xml:"IsTruncated"`
	Next        string `xml:"NextContinuationToken"`
}

func parseListing(text []byte) (l listing, err error) {
	if err = xml.Unmarshal(text, &l); err != nil {
		return listing{}, err
	}
	if l.IsTruncated && l.Next == "" {
		return listing{}, fmt.Errorf("a truncated listing without a continuation")
	}
	return l, nil
}

// List implements Store.
func (s *S3) List(ctx context.Context, prefix string) (files []File, err error) {
	q := map[string]string{"list-type": "2", "prefix": s.key(prefix)}
	base := s.key("")
	for {
		a, err := s.Do(ctx, S3Request{Method: http.MethodGet, Query: q})
		if err != nil {
			return nil, err
		}
		text, err := io.ReadAll(io.LimitReader(a.Body, maxS3Answer))
		_ = a.Body.Close()
		if err != nil {
			return nil, s.unreachable(ctx, err)
		}
		l, err := parseListing(text)
		if err != nil {
			return nil, problem.New(problem.Upstream, "target-answer", "The target "+s.t.Name+" answers a listing that cannot be read.").Wrap(err)
		}
		for _, c := range l.Contents {
			if name, ok := strings.CutPrefix(c.Key, base); ok && !strings.HasSuffix(name, "/") {
				files = append(files, File{Name: name, Size: c.Size, Modified: c.LastModified})
			}
		}
		if !l.IsTruncated || q["continuation-token"] == l.Next {
			break
		}
		q["continuation-token"] = l.Next
	}
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	return files, nil
}

// Open implements Store.
func (s *S3) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	if err := fileName(name); err != nil {
		return nil, err
	}
	a, err := s.Do(ctx, S3Request{Method: http.MethodGet, Key: s.key(name)})
	if err != nil {
		return nil, err
	}
	return a.Body, nil
}

// Put implements Store.
func (s *S3) Put(ctx context.Context, name string, content []byte) error {
	if err := fileName(name); err != nil {
		return err
	}
	return s.done(s.Do(ctx, S3Request{Method: http.MethodPut, Key: s.key(name), Body: content}))
}

// Delete implements Store. In a bucket with versions it leaves a marker.
func (s *S3) Delete(ctx context.Context, name string) error {
	if err := fileName(name); err != nil {
		return err
	}
	err := s.done(s.Do(ctx, S3Request{Method: http.MethodDelete, Key: s.key(name)}))
	if isMissing(err) {
		return nil
	}
	return err
}

func (s *S3) done(a *http.Response, err error) error {
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(a.Body, 1<<16))
	return a.Body.Close()
}
