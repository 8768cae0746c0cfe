package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
)

// memcachedTLS is -o ssl_….
type memcachedTLS struct {
	cert, key, ca, ciphers string
	verify, minVersion     int
}

// opensslNames are the names that OpenSSL has for cipher suites; the others are IANA's.
var opensslNames = map[string]string{
	"ECDHE-ECDSA-AES128-GCM-SHA256": "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
	"ECDHE-RSA-AES128-GCM-SHA256":   "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
	"ECDHE-ECDSA-AES256-GCM-SHA384": "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
	"ECDHE-RSA-AES256-GCM-SHA384":   "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
	"ECDHE-ECDSA-CHACHA20-POLY1305": "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
	"ECDHE-RSA-CHACHA20-POLY1305":   "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
}

// certificates are what the server shows and what it checks clients' by; they can be read again while it runs.
type certificates struct {
	conf    memcachedTLS
	current atomic.Pointer[certificateFiles]
}

type certificateFiles struct {
	own tls.Certificate
	ca  *x509.CertPool // nil: no file is configured
}

// load reads the files. When one is wrong, what was read before stays.
func (c *certificates) load() error {
	key := c.conf.key
	if key == "" {
		key = c.conf.cert
	}
	var f certificateFiles
	var err error
	if f.own, err = tls.LoadX509KeyPair(c.conf.cert, key); err != nil {
		return fmt.Errorf("ssl_chain_cert, ssl_key: %w", err)
	}
	if c.conf.ca != "" {
		pem, err := os.ReadFile(c.conf.ca)
		if err != nil {
			return fmt.Errorf("ssl_ca_cert: %w", err)
		}
		f.ca = x509.NewCertPool()
		if !f.ca.AppendCertsFromPEM(pem) {
			return fmt.Errorf("ssl_ca_cert: %s has no certificate", c.conf.ca)
		}
	}
	c.current.Store(&f)
	return nil
}

// config is TLS as the options say; mode, if not "", is the prefix of an address.
func (c *certificates) config(mode string) (*tls.Config, error) {
	t := &c.conf
	conf := &tls.Config{
		MinVersion:     []uint16{tls.VersionTLS10, tls.VersionTLS11, tls.VersionTLS12, tls.VersionTLS13}[t.minVersion],
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &c.current.Load().own, nil },
		ClientAuth: []tls.ClientAuthType{
			tls.NoClientCert, tls.VerifyClientCertIfGiven, tls.RequireAndVerifyClientCert, tls.RequireAndVerifyClientCert,
		}[t.verify],
	}
	switch mode {
	case "btls":
		conf.ClientAuth = tls.NoClientCert
	case "mtls":
		conf.ClientAuth = tls.RequireAndVerifyClientCert
	}
	for name := range strings.SplitSeq(t.ciphers, ":") {
		if name == "" {
			continue
		}
		id, err := cipherSuite(name)
		if err != nil {
			return nil, err
		}
		conf.CipherSuites = append(conf.CipherSuites, id)
	}
	if conf.ClientAuth == tls.NoClientCert {
		return conf, nil
	}
	if t.ca == "" {
		return nil, usagef("clients' certificates are to be checked: -o ssl_ca_cert says by whose")
	}
	conf.SessionTicketsDisabled = true // whose authority was taken away shall not come back by a ticket
	conf.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		now := conf.Clone()
		now.ClientCAs, now.GetConfigForClient = c.current.Load().ca, nil
		return now, nil
	}
	return conf, nil
}

func cipherSuite(name string) (uint16, error) {
	if iana, ok := opensslNames[name]; ok {
		name = iana
	}
	for _, s := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		if s.Name == name {
			return s.ID, nil
		}
	}
	return 0, usagef("ssl_ciphers: there is no suite %q here", name)
}
