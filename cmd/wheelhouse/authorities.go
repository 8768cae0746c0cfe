package main

import (
	"crypto/x509"
	"fmt"
	"os"
)

// authorities reads the certificates of a PEM file, of which there must be one at least.
func authorities(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: no certificate of an authority in it", file)
	}
	return pool, nil
}
