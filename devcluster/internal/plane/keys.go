package plane

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// keys are the plane's credentials. The authority and the key that signs
// service account tokens live as long as the directory; everything signed by
// the authority is made anew at each start.
type keys struct {
	server         string // URL
	caFile         string
	caKeyFile      string
	tlsCertFile    string
	tlsKeyFile     string
	accountKeyFile string

	ca    *x509.Certificate
	caKey crypto.Signer
	caPEM []byte

	admin             *rest.Config
	controllerManager string // path of a kubeconfig
	scheduler         string // path of a kubeconfig
	kwok              string // path of a kubeconfig
}

const (
	controllerManagerUser = "system:kube-controller-manager"
	schedulerUser         = "system:kube-scheduler"
	kwokUser              = "system:devcluster:kwok"
	adminUser             = "devcluster-admin"
	mastersGroup          = "system:masters"

	// The first address of the service range is the API server's own.
	serviceRange = "10.96.0.0/16"
	apiServiceIP = "10.96.0.1"
)

func (d *directory) issueKeys(address string) (*keys, error) {
	k := &keys{
		server:         "https://" + address,
		caFile:         d.file("pki/ca.crt"),
		caKeyFile:      d.file("pki/ca.key"),
		tlsCertFile:    d.file("pki/apiserver.crt"),
		tlsKeyFile:     d.file("pki/apiserver.key"),
		accountKeyFile: d.file("pki/service-account.key"),
	}
	if err := k.loadAuthority(); err != nil {
		return nil, err
	}
	if _, err := loadKey(k.accountKeyFile); err != nil {
		return nil, err
	}
	cert, key, err := k.issue(&x509.Certificate{
		Subject:     pkix.Name{CommonName: "kube-apiserver"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.ParseIP(apiServiceIP)},
		DNSNames: []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
			"kubernetes.default.svc.cluster.local"},
	})
	if err != nil {
		return nil, err
	}
	if err := errors.Join(writeFile(k.tlsCertFile, cert, 0o600), writeFile(k.tlsKeyFile, key, 0o600)); err != nil {
		return nil, err
	}
	// Each component has its own name, for the audit log; as members of
	// system:masters none of them waits for roles to be bootstrapped.
	for _, c := range []struct {
		user string
		file string
		path *string
	}{
		{controllerManagerUser, d.file("pki/controller-manager.kubeconfig"), &k.controllerManager},
		{schedulerUser, d.file("pki/scheduler.kubeconfig"), &k.scheduler},
		{kwokUser, d.file("pki/kwok.kubeconfig"), &k.kwok},
		{adminUser, d.kubeconfig(), new(string)},
	} {
		if err := k.writeKubeconfig(c.user, c.file); err != nil {
			return nil, err
		}
		*c.path = c.file
	}
	k.admin, err = clientcmd.BuildConfigFromFlags("", d.kubeconfig())
	if err != nil {
		return nil, err
	}
	k.admin.QPS = -1
	k.admin.UserAgent = "devcluster"
	return k, nil
}

func (k *keys) loadAuthority() error {
	key, err := loadKey(k.caKeyFile)
	if err != nil {
		return err
	}
	k.caKey = key
	k.caPEM, err = os.ReadFile(k.caFile)
	if errors.Is(err, os.ErrNotExist) {
		template := &x509.Certificate{
			Subject:               pkix.Name{CommonName: "devcluster"},
			IsCA:                  true,
			BasicConstraintsValid: true,
			KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		}
		stamp(template)
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			return fmt.Errorf("make the certificate authority: %w", err)
		}
		k.caPEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
		if err := writeFile(k.caFile, k.caPEM, 0o600); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	block, _ := pem.Decode(k.caPEM)
	if block == nil {
		return fmt.Errorf("read %q: not PEM: remove the control plane's directory to start afresh", k.caFile)
	}
	k.ca, err = x509.ParseCertificate(block.Bytes)
	if err != nil {
		return fmt.Errorf("read %q: %w", k.caFile, err)
	}
	return nil
}

// issue signs a certificate for a new key and returns both as PEM.
func (k *keys) issue(template *x509.Certificate) (cert, key []byte, err error) {
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	stamp(template)
	der, err := x509.CreateCertificate(rand.Reader, template, k.ca, signer.Public(), k.caKey)
	if err != nil {
		return nil, nil, fmt.Errorf("sign a certificate for %s: %w", template.Subject.CommonName, err)
	}
	key, err = encodeKey(signer)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), key, nil
}

func (k *keys) writeKubeconfig(user, path string) error {
	cert, key, err := k.issue(&x509.Certificate{
		Subject:     pkix.Name{CommonName: user, Organization: []string{mastersGroup}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return err
	}
	const name = "devcluster"
	data, err := clientcmd.Write(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{name: {Server: k.server, CertificateAuthorityData: k.caPEM}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{user: {ClientCertificateData: cert, ClientKeyData: key}},
		Contexts:       map[string]*clientcmdapi.Context{name: {Cluster: name, AuthInfo: user}},
		CurrentContext: name,
	})
	if err != nil {
		return err
	}
	return writeFile(path, data, 0o600)
}

func stamp(c *x509.Certificate) {
	c.SerialNumber = new(big.Int).SetInt64(time.Now().UnixNano())
	c.NotBefore = time.Now().Add(-time.Hour)
	c.NotAfter = time.Now().AddDate(10, 0, 0)
}

// loadKey reads a private key, making it at the first time.
func loadKey(path string) (crypto.Signer, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		data, err := encodeKey(key)
		if err != nil {
			return nil, err
		}
		return key, writeFile(path, data, 0o600)
	}
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("read %q: not PEM: remove the control plane's directory to start afresh", path)
	}
	key, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", path, err)
	}
	return key, nil
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}
