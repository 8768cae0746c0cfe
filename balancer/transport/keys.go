package transport

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"wheelhouse/balancer"
)

// acmeProtocol is what an ACME server asks for in a TLS-ALPN-01 challenge (RFC 8737).
const acmeProtocol = "acme-tls/1"

// keyring is a service's certificates.
type keyring struct {
	certs      atomic.Pointer[[]tls.Certificate]
	handshakes atomic.Pointer[handshakes]
	acme       *acme // nil without
	service    string
	tickets    *Tickets
	shared     atomic.Pointer[ticketKeys] // with other machines, in place of tickets; nil: none
}

// handshakes is the configuration of handshakes. It is one for all of them as long as the same is demanded of clients: it holds the keys of their tickets.
type handshakes struct {
	config *tls.Config
	scope  string                     // what of the keys are its own
	mu     sync.Mutex                 // of those who change config's keys
	in     atomic.Pointer[ticketKeys] // those that config has
}

// newKeyring reads the certificates of a service of that name; h2: HTTP/2 is offered.
func newKeyring(name string, t balancer.TLS, h2 bool, tickets *Tickets, log *slog.Logger) (*keyring, error) {
	keys, err := LoadKeys(t)
	if err != nil {
		return nil, err
	}
	k := &keyring{service: name, tickets: tickets}
	if len(t.ACMEDomains) > 0 {
		if k.acme, err = newACME(t, log); err != nil {
			return nil, err
		}
	}
	k.handshakes.Store(&handshakes{config: &tls.Config{
		MinVersion: t.MinVersion, CipherSuites: suites(t.Ciphers), GetCertificate: k.certificate, NextProtos: protocols(h2, k.acme != nil),
	}})
	k.set(keys)
	return k, nil
}

// protocols are what clients are offered (RFC 7301); none where there is no choice.
func protocols(h2, acme bool) (list []string) {
	if !h2 && !acme {
		return nil
	}
	if h2 {
		list = append(list, "h2")
	}
	list = append(list, "http/1.1")
	if acme {
		list = append(list, acmeProtocol)
	}
	return list
}

// readPairs reads certificates and their keys.
func readPairs(t balancer.TLS) ([]tls.Certificate, error) {
	var certs []tls.Certificate
	for i, file := range t.CertFiles {
		c, err := tls.LoadX509KeyPair(file, t.KeyFiles[i])
		if err != nil {
			return nil, fmt.Errorf("certificate %s with key %s: %w", file, t.KeyFiles[i], err)
		}
		certs = append(certs, c)
	}
	return certs, nil
}

// set puts keys in force. It is not to be called twice at once.
func (k *keyring) set(keys *Keys) {
	k.certs.Store(&keys.certs)
	k.shared.Store(keys.tickets)
	old := k.handshakes.Load()
	scope := fmt.Sprintf("%q %s", k.service, keys.clients.name)
	if scope == old.scope {
		return
	}
	config := old.config.Clone()
	config.ClientAuth, config.ClientCAs = keys.clients.auth, keys.clients.authorities
	k.handshakes.Store(&handshakes{config: config, scope: scope})
}

// certificate chooses by the name that the client asks for: the first certificate that fits, else the first of all, so that a client
// that knows no names gets an answer.
func (k *keyring) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if p := hello.SupportedProtos; k.acme != nil && len(p) == 1 && p[0] == acmeProtocol { // RFC 8737 §3: the challenge's own, whatever else fits
		return k.acme.certificate(hello)
	}
	certs := *k.certs.Load()
	for i := range certs {
		if hello.SupportsCertificate(&certs[i]) == nil {
			return &certs[i], nil
		}
	}
	if k.acme != nil {
		if c, err := k.acme.certificate(hello); err == nil || len(certs) == 0 {
			return c, err
		}
	}
	if len(certs) == 0 {
		return nil, fmt.Errorf("no certificate for %q", hello.ServerName)
	}
	return &certs[0], nil
}

// manage has certificates fetched and renewed in the background.
func (k *keyring) manage() {
	if k.acme != nil {
		k.acme.start()
	}
}

func (k *keyring) stop() {
	if k.acme != nil {
		k.acme.end()
	}
}

// handshake is the configuration of one that begins now: with the keys of tickets that are in use.
func (k *keyring) handshake() *tls.Config {
	s := k.handshakes.Load()
	if s.in.Load() == k.ticketKeys() {
		return s.config
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := k.ticketKeys()
	s.config.SetSessionTicketKeys(now.derive(s.scope))
	s.in.Store(now)
	return s.config
}

func (k *keyring) ticketKeys() *ticketKeys {
	if shared := k.shared.Load(); shared != nil {
		return shared
	}
	return k.tickets.current()
}

// clientDemands are what clients must show.
type clientDemands struct {
	auth        tls.ClientAuthType
	authorities *x509.CertPool
	name        string // tells these from others
}

// readClients reads what clients must show, in IO::Socket::SSL's modes: bit 0 asks, bit 1 demands.
func readClients(t balancer.TLS) (d clientDemands, err error) {
	if t.Verify&1 == 0 {
		return d, nil
	}
	d.auth, d.authorities = tls.VerifyClientCertIfGiven, x509.NewCertPool()
	if t.Verify&2 != 0 {
		d.auth = tls.RequireAndVerifyClientCert
	}
	if t.CAPath == "" {
		return d, fmt.Errorf("ssl_verify_mode needs ssl_ca_path")
	}
	files := []string{t.CAPath}
	if fi, err := os.Stat(t.CAPath); err == nil && fi.IsDir() {
		if files, err = filepath.Glob(filepath.Join(t.CAPath, "*")); err != nil {
			return d, err
		}
	}
	found, sum := false, sha256.New()
	for _, f := range files {
		if fi, err := os.Stat(f); err == nil && fi.IsDir() { // /etc/ssl/certs/java
			continue
		}
		pem, err := os.ReadFile(f)
		if err != nil {
			return d, fmt.Errorf("ssl_ca_path: %w", err)
		}
		found = d.authorities.AppendCertsFromPEM(pem) || found
		fmt.Fprintf(sum, "%d:", len(pem))
		sum.Write(pem)
	}
	if !found {
		return d, fmt.Errorf("ssl_ca_path: %s has no certificates", t.CAPath)
	}
	d.name = fmt.Sprintf("%d %x", d.auth, sum.Sum(nil))
	return d, nil
}

// suites reads OpenSSL's list of ciphers as far as Go's TLS knows them by name; nil, which means Go's own choice, when it names none.
// TLS 1.3's are not configurable.
func suites(list string) []uint16 {
	known := map[string]uint16{}
	for _, s := range tls.CipherSuites() {
		known[opensslName(s.Name)] = s.ID
	}
	var ids []uint16
	for name := range strings.FieldsFuncSeq(list, func(r rune) bool { return r == ':' || r == ',' || r == ' ' }) {
		if id, ok := known[strings.ToUpper(name)]; ok {
			ids = append(ids, id)
		}
	}
	return ids
}

// opensslName is OpenSSL's name of a suite: TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 is ECDHE-RSA-AES128-GCM-SHA256. That of CBC is silent,
// TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA is ECDHE-RSA-AES128-SHA, and so is RSA's where it is all, TLS_RSA_WITH_AES_128_GCM_SHA256 is
// AES128-GCM-SHA256 (openssl-ciphers(1)).
func opensslName(name string) string {
	name = strings.TrimPrefix(strings.TrimPrefix(name, "TLS_"), "RSA_WITH_")
	name = strings.Replace(name, "_WITH_", "_", 1)
	name = strings.NewReplacer("_CBC_", "_", "AES_128", "AES128", "AES_256", "AES256", "CHACHA20_POLY1305_SHA256", "CHACHA20_POLY1305").Replace(name)
	return strings.ReplaceAll(name, "_", "-")
}
