package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"wheelhouse/balancer"
)

// acme fetches and renews certificates. Challenges are answered on the service's own port, by TLS-ALPN-01.
type acme struct {
	magic   *certmagic.Config
	cache   *certmagic.Cache
	domains []string
	log     *slog.Logger

	once   sync.Once
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup
}

func newACME(t balancer.TLS, log *slog.Logger) (*acme, error) {
	if err := os.MkdirAll(t.ACMEStorage, 0o700); err != nil {
		return nil, fmt.Errorf("acme_storage: %w", err)
	}
	var roots *x509.CertPool
	if t.ACMETrust != "" {
		pem, err := os.ReadFile(t.ACMETrust)
		if err != nil {
			return nil, fmt.Errorf("acme_trust: %w", err)
		}
		roots = x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("acme_trust: %s has no certificates", t.ACMETrust)
		}
	}
	a := &acme{domains: t.ACMEDomains, log: log}
	// What certmagic says of its own is for its developers; what it achieves or not comes back as errors and events.
	quiet := zap.NewNop()
	a.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return a.magic, nil }, Logger: quiet,
	})
	a.magic = certmagic.New(a.cache, certmagic.Config{
		Storage: &certmagic.FileStorage{Path: t.ACMEStorage}, Logger: quiet, OnEvent: a.event,
		DefaultServerName: t.ACMEDomains[0], FallbackServerName: t.ACMEDomains[0], // as of certificates in files
	})
	issuer := certmagic.NewACMEIssuer(a.magic, certmagic.ACMEIssuer{
		CA: t.ACMEDirectory, Email: t.ACMEEmail, Agreed: true, DisableHTTPChallenge: true, TrustedRoots: roots, Logger: quiet,
	})
	if t.ACMEDirectory == "" {
		issuer.CA = certmagic.LetsEncryptProductionCA
	}
	a.magic.Issuers = []certmagic.Issuer{issuer}
	// Ended by end; a front has no context of its own.
	a.ctx, a.cancel = context.WithCancel(context.Background())
	return a, nil
}

// event logs what an operator wants to know.
func (a *acme) event(_ context.Context, event string, data map[string]any) error {
	switch event {
	case "cert_obtained":
		a.log.Info("certificate obtained", "name", data["identifier"], "renewal", data["renewal"])
	case "cert_failed":
		a.log.Error("certificate could not be obtained", "name", data["identifier"], "err", data["error"])
	}
	return nil
}

func (a *acme) start() {
	a.once.Do(func() {
		a.work.Go(func() {
			// Not ManageSync: that asks on standard input for an address where none is configured.
			if err := a.magic.ManageAsync(a.ctx, a.domains); err != nil && a.ctx.Err() == nil {
				a.log.Error("certificates cannot be managed", "err", err)
			}
		})
	})
}

func (a *acme) end() {
	a.cancel()
	a.work.Wait()
	a.cache.Stop()
}

func (a *acme) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return a.magic.GetCertificate(hello)
}
