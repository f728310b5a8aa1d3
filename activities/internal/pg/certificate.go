package pg

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// certificate is the client's, with its key.
type certificate struct {
	tls.Certificate
	file, keyFile string
	keyPassword   string // "" where the key is not encrypted
}

// ownCertificate reads certificate and key, nil where there are none. The error is a *lack.
func (r *reach) ownCertificate(ctx context.Context) (*certificate, error) {
	c := &certificate{file: r.parameters["sslcert"], keyFile: r.parameters["sslkey"]}
	if r.parameters["sslcertmode"] == "disable" || r.parameters.mode() == "disable" || c.file == "" && c.keyFile == "" {
		return nil, nil
	}
	if c.file == "" || c.keyFile == "" {
		return nil, lackf(RefusedFile, nil, fmt.Sprintf("give both %s and %s", r.key("ssl.cert"), r.key("ssl.key")),
			"a client certificate is of use only with its key")
	}
	chain, err := r.read("the client certificate", "ssl.cert", c.file)
	if err != nil {
		return nil, err
	}
	secret, err := r.read("the key of the client certificate", "ssl.key", c.keyFile)
	if err != nil {
		return nil, err
	}
	if err := private(c.keyFile); err != nil {
		return nil, lackf(RefusedFile, err, "chmod 0600 "+c.keyFile, "the key of the client certificate %s %s", c.keyFile, err)
	}
	key, err := r.clientKey(ctx, c, keyBlock(secret))
	if err != nil {
		return nil, err
	}
	if c.Certificate, err = tls.X509KeyPair(chain, pem.EncodeToMemory(key)); err == nil {
		return c, nil
	}
	if block, _ := pem.Decode(chain); block == nil || block.Type != "CERTIFICATE" {
		return nil, lackf(RefusedFile, err, "correct "+r.key("ssl.cert"), "%s holds no certificate in PEM form", c.file)
	}
	return nil, lackf(RefusedKey, err, fmt.Sprintf("name the key in %s that belongs to the certificate in %s", r.key("ssl.key"), r.key("ssl.cert")),
		"the key %s does not fit the client certificate %s", c.keyFile, c.file)
}

// clientKey decrypts either form of an encrypted key, and passes one that is not. It notes in c the password that it took.
func (r *reach) clientKey(ctx context.Context, c *certificate, block *pem.Block) (*pem.Block, error) {
	if block == nil {
		return nil, lackf(RefusedKey, nil, "correct "+r.key("ssl.key"), "%s holds no private key in PEM form", c.keyFile)
	}
	old := x509.IsEncryptedPEMBlock(block) //nolint:staticcheck // openssl still writes this form, and libpq reads it
	if !old && block.Type != "ENCRYPTED PRIVATE KEY" {
		return block, nil
	}
	var err error
	if c.keyPassword, err = r.keyPassword(ctx); err != nil {
		return nil, err
	}
	if c.keyPassword == "" {
		return nil, lackf(RefusedKeyPassword, nil, "name where it is in "+r.key("ssl.keyPasswordFrom"),
			"the key %s is encrypted and no password for it was given", c.keyFile)
	}
	plain := &pem.Block{Type: "PRIVATE KEY"}
	if old {
		plain.Type = block.Type
		plain.Bytes, err = x509.DecryptPEMBlock(block, []byte(c.keyPassword)) //nolint:staticcheck // as above
	} else {
		plain.Bytes, err = decryptPKCS8(block.Bytes, c.keyPassword)
	}
	if errors.Is(err, errKeyForm) {
		return nil, lackf(RefusedKey, err, "encrypt it anew: openssl pkcs8 -topk8 -v2 aes-256-cbc -in "+c.keyFile+" -out NEW",
			"the key %s is encrypted in a way that is not supported: %s", c.keyFile, err)
	}
	if err != nil || !holdsKey(plain.Bytes) {
		return nil, lackf(RefusedKeyPassword, err, fmt.Sprintf("correct the password that %s names", r.key("ssl.keyPasswordFrom")),
			"the password of the key %s is wrong", c.keyFile)
	}
	return plain, nil
}

// keyBlock is the first block with a key; parameters of a curve may go before it.
func keyBlock(content []byte) *pem.Block {
	for {
		block, rest := pem.Decode(content)
		if block == nil || strings.HasSuffix(block.Type, "PRIVATE KEY") {
			return block
		}
		content = rest
	}
}

// holdsKey tells a decrypted key from what a wrong password leaves, which may have a right padding by chance.
func holdsKey(der []byte) bool {
	_, one := x509.ParsePKCS8PrivateKey(der)
	_, two := x509.ParsePKCS1PrivateKey(der)
	_, three := x509.ParseECPrivateKey(der)
	return one == nil || two == nil || three == nil
}

func (r *reach) keyPassword(ctx context.Context) (string, error) {
	switch {
	case r.typed.KeyPassword != "":
		return r.typed.KeyPassword, nil
	case r.SSL != nil && r.SSL.KeyPasswordFrom != nil:
		return r.secret(ctx, "ssl.keyPasswordFrom", *r.SSL.KeyPasswordFrom)
	}
	return r.parameters["sslpassword"], nil
}
