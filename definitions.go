package belay

// Cluster declares a cluster that applications may name as their destination.
type Cluster struct {
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels,omitempty"`
	Spec   ClusterSpec       `json:"spec"`
	Origin Origin            `json:"origin"`
}

// ClusterSpec is the spec of a Cluster.
type ClusterSpec struct {
	// Kubeconfig holds the credentials. Default: the server's own (--kubeconfig,
	// or the service account it runs as).
	Kubeconfig *Reference `json:"kubeconfig,omitempty" doc:"Where the kubeconfig is kept. Default: the server's own."`
	// Context of that kubeconfig. Default: its current one.
	Context string `json:"context,omitempty" doc:"Context of the kubeconfig. Default: the current one."`
}

// LocalCluster is the name of the server's own cluster when no Cluster is declared.
const LocalCluster = "local"

// Repository declares how a Git repository is reached.
type Repository struct {
	Name   string         `json:"name"`
	Spec   RepositorySpec `json:"spec"`
	Origin Origin         `json:"origin"`
}

// RepositorySpec is the spec of a Repository.
type RepositorySpec struct {
	// URL: https://, ssh://, git@host:path, file:// or an absolute path of a Git
	// repository, https:// of a Helm repository, oci:// of a registry. Never with a password.
	URL string `json:"url" doc:"https://, ssh://, git@host:path, file:// or an absolute path; without credentials."`
	// Interval between polls, a Go duration. Default 30s.
	Interval string          `json:"interval,omitempty" doc:"Time between polls, such as 30s or 5m."`
	Auth     *RepositoryAuth `json:"auth,omitempty" doc:"Credentials, each as a reference."`
	// PlainHTTP speaks HTTP without TLS with an OCI registry. Default false.
	PlainHTTP bool `json:"plainHTTP,omitempty" doc:"Speak HTTP without TLS with an OCI registry."`
}

// RepositoryAuth are credentials of a repository, each kept outside Git.
type RepositoryAuth struct {
	Username string `json:"username,omitempty" doc:"User name for HTTPS. Default: git."`
	// Password or token for HTTPS.
	Password *Reference `json:"password,omitempty" doc:"Password or token for HTTPS."`
	// SSHKey is a private key without a passphrase.
	SSHKey *Reference `json:"sshKey,omitempty" doc:"Private SSH key."`
	// KnownHosts is required with SSHKey unless the system's own file has the host.
	KnownHosts *Reference `json:"knownHosts,omitempty" doc:"known_hosts lines for the SSH host."`
	// CA is a bundle of PEM certificates for HTTPS.
	CA *Reference `json:"ca,omitempty" doc:"PEM certificates that HTTPS trusts beside the system's."`
}

// Reference points at a value that is kept outside Git. Exactly one field is set.
type Reference struct {
	// File is an absolute path on the machine the server runs on.
	File string `json:"file,omitempty" doc:"Absolute path on the server's machine."`
	// Env is the name of an environment variable of the server.
	Env string `json:"env,omitempty" doc:"Environment variable of the server."`
	// Secret is a key of a Secret in the server's own cluster.
	Secret *SecretReference `json:"secret,omitempty" doc:"Key of a Secret in the server's own cluster."`
}

// SecretReference names one key of a Kubernetes Secret.
type SecretReference struct {
	Namespace string `json:"namespace" doc:"Namespace of the Secret."`
	Name      string `json:"name" doc:"Name of the Secret."`
	Key       string `json:"key" doc:"Key of its data."`
}

// DefaultRepositorySpec is what a Repository means where it says nothing.
func DefaultRepositorySpec() RepositorySpec { return RepositorySpec{Interval: "30s"} }
