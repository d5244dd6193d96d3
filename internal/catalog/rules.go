package catalog

import (
	"reflect"
	"strings"
	"sync"

	"github.com/belaydev/belay"
)

// A rule is what is known of a field beside its Go type. Rules and types
// together make the decoder, the JSON Schemas and the reference.
type rule struct {
	required bool
	format   *format // of a string, of each item of a list, of each value of a map
	keys     *format // of each key of a map
	min, max *int    // of a number
	// otherwise says what holds when the field is absent and that is not a constant.
	otherwise string
	// example is a JSON value.
	example string
}

// rules by Go type and field. A test holds them against the types, both ways.
var rules = map[string]rule{
	"metadata.name":        {required: true, format: formatName, example: `"guestbook"`},
	"metadata.labels":      {format: formatLabelValue, keys: formatLabelKey, example: `{"team": "web"}`},
	"metadata.annotations": {format: formatText, keys: formatLabelKey, example: `{"example.com/owner": "web@example.com"}`},

	"ApplicationSpec.project": {format: formatName, example: `"web"`},
	"ApplicationSpec.sources": {otherwise: "source alone"},
	"Dependency.name":         {required: true, format: formatName, example: `"postgres-operator"`},
	"Dependency.ready":        {format: formatReady, otherwise: "Synced and Healthy at its newest commit", example: `"app.health == 'Healthy'"`},
	"Suspension.reason":       {required: true, format: formatWord, example: `"migration of the database, until Tuesday"`},
	"Patch.patch":             {format: formatWord, example: `"- op: replace\n  path: /spec/replicas\n  value: 3\n"`},
	"Patch.file":              {format: formatSourceFile, example: `"patches/replicas.yaml"`},
	"Variables.files":         {format: formatSourceFile, otherwise: "none", example: `["clusters/production.yaml"]`},
	"Variables.values":        {format: formatText, keys: formatVariable, example: `{"REGION": "eu-west-1"}`},

	"ApplicationSetSpec.generators":      {required: true},
	"ApplicationSetSpec.when":            {format: formatWhen, otherwise: "all elements", example: `"{{ ne .stage \"retired\" }}"`},
	"ApplicationSetSpec.template":        {required: true},
	"ApplicationSetSpec.confirm":         {format: formatWord, otherwise: "no confirmation", example: `"kfqwznbd"`},
	"ApplicationSetSpec.deletion":        {format: formatDeletion, example: `"orphan"`},
	"ApplicationTemplate.metadata":       {required: true},
	"ApplicationTemplate.spec":           {required: true},
	"TemplateMetadata.name":              {required: true, format: formatName, example: `"{{ .path.basename }}"`},
	"TemplateMetadata.labels":            {format: formatLabelValue, keys: formatLabelKey, example: `{"team": "{{ .team }}"}`},
	"TemplateMetadata.annotations":       {format: formatText, keys: formatLabelKey, example: `{"example.com/owner": "{{ .owner }}"}`},
	"Generator.as":                       {format: formatVariable, otherwise: "the parameters stand at the top", example: `"cluster"`},
	"ListGenerator.elements":             {required: true, example: `[{"name": "blue"}, {"name": "green"}]`},
	"DirectoriesGenerator.repo":          {format: formatRepo, otherwise: "the repository of this definition", example: `"apps"`},
	"DirectoriesGenerator.ref":           {format: formatRef, otherwise: "the commit of this definition, or HEAD of another repository", example: `"main"`},
	"DirectoriesGenerator.paths":         {required: true, format: formatPathGlob, example: `["apps/*"]`},
	"DirectoriesGenerator.exclude":       {format: formatPathGlob, otherwise: "none", example: `["apps/legacy-*"]`},
	"FilesGenerator.repo":                {format: formatRepo, otherwise: "the repository of this definition", example: `"apps"`},
	"FilesGenerator.ref":                 {format: formatRef, otherwise: "the commit of this definition, or HEAD of another repository", example: `"main"`},
	"FilesGenerator.paths":               {required: true, format: formatPathGlob, example: `["envs/*/config.yaml"]`},
	"FilesGenerator.exclude":             {format: formatPathGlob, otherwise: "none", example: `["envs/template/*"]`},
	"ClustersGenerator.matchLabels":      {format: formatLabelValue, keys: formatLabelKey, example: `{"stage": "production"}`},
	"ClustersGenerator.matchExpressions": {otherwise: "none"},
	"LabelRequirement.key":               {required: true, format: formatLabelKey, example: `"region"`},
	"LabelRequirement.operator":          {required: true, format: formatOperator, example: `"In"`},
	"LabelRequirement.values":            {format: formatLabelValue, otherwise: "none", example: `["eu-west-1", "eu-central-1"]`},
	"MatrixGenerator.generators":         {required: true},
	"MergeGenerator.generators":          {required: true},
	"MergeGenerator.keys":                {required: true, format: formatParameter, example: `["name"]`},

	"PatchTarget.group":              {format: formatText, example: `"apps"`},
	"PatchTarget.version":            {format: formatText, example: `"v1"`},
	"PatchTarget.kind":               {format: formatText, example: `"Deployment"`},
	"PatchTarget.name":               {format: formatText, example: `"web-.*"`},
	"PatchTarget.namespace":          {format: formatText, example: `"web"`},
	"PatchTarget.labelSelector":      {format: formatText, example: `"tier=frontend"`},
	"PatchTarget.annotationSelector": {format: formatText, example: `"example.com/patched=yes"`},

	"Source.name":                   {format: formatNamespace, otherwise: "none", example: `"values"`},
	"Source.chart":                  {format: formatChart, otherwise: "none: repo is no Helm repository", example: `"ingress-nginx"`},
	"Source.repo":                   {format: formatRepo, otherwise: "the repository of this definition", example: `"charts"`},
	"Source.ref":                    {format: formatRef, otherwise: "the ref followed for this definition, HEAD of another repository, or the newest version of a chart or artifact", example: `">=1.2 <2"`},
	"Source.path":                   {format: formatPath, otherwise: "the root of the repository", example: `"apps/guestbook"`},
	"DirectorySource.include":       {format: formatGlob, otherwise: "every .yaml, .yml and .json file", example: `["**/*.yaml"]`},
	"DirectorySource.exclude":       {format: formatGlob, otherwise: "none", example: `["**/*_test.yaml"]`},
	"HelmSource.releaseName":        {format: formatReleaseName, otherwise: "the application's name", example: `"guestbook"`},
	"HelmSource.valuesFiles":        {format: formatValuesFile, otherwise: "none", example: `["values-production.yaml", "/common/values.yaml"]`},
	"HelmSource.values":             {example: `{"replicas": 3}`},
	"Destination.cluster":           {format: formatName, otherwise: "the only cluster there is", example: `"production"`},
	"Destination.namespace":         {format: formatNamespace, example: `"guestbook"`},
	"SyncPolicy.confirm":            {format: formatWord, otherwise: "no confirmation", example: `"7d9f2c"`},
	"NamespaceMetadata.labels":      {format: formatLabelValue, keys: formatLabelKey, example: `{"pod-security.kubernetes.io/enforce": "restricted"}`},
	"NamespaceMetadata.annotations": {format: formatText, keys: formatLabelKey, example: `{"example.com/owner": "web@example.com"}`},
	"SyncPolicy.propagation":        {format: formatPropagation, example: `"foreground"`},
	"SyncPolicy.ignoreDifferences":  {otherwise: "none"},
	"SyncPolicy.timeout":            {format: formatDuration, otherwise: "no limit", example: `"10m"`},
	"AutomaticRollback.window":      {format: formatDuration, example: `"10m"`},
	"AutomaticRollback.hold":        {format: formatDuration, example: `"24h"`},
	"SyncPolicy.rollback":           {otherwise: "never"},
	"RollbackPolicy.push":           {format: formatPush, example: `"pullRequest"`},
	"RollbackPolicy.branchPrefix":   {format: formatBranchPrefix, example: `"belay/rollback-"`},
	"IgnoreRule.kind":               {format: formatKinds, otherwise: "every kind", example: `"apps/Deployment"`},
	"IgnoreRule.name":               {format: formatNameGlob, otherwise: "every name", example: `"web-*"`},
	"IgnoreRule.namespace":          {format: formatNameGlob, otherwise: "every namespace", example: `"web"`},
	"IgnoreRule.pointers":           {format: formatPointer, otherwise: "none", example: `["/spec/replicas"]`},
	"IgnoreRule.managers":           {format: formatWord, otherwise: "none", example: `["kube-controller-manager"]`},
	"Retry.limit":                   {min: new(0), example: `5`},
	"Retry.first":                   {format: formatDuration, example: `"5s"`},
	"Retry.most":                    {format: formatDuration, example: `"3m"`},
	"Window.kind":                   {required: true, format: formatWindowKind, example: `"deny"`},
	"Window.schedule":               {required: true, format: formatCron, example: `"0 22 * * 5"`},
	"Window.duration":               {required: true, format: formatDuration, example: `"60h"`},
	"Window.timeZone":               {format: formatTimeZone, example: `"Europe/Berlin"`},
	"Window.applications":           {format: formatNameGlob, otherwise: "every application of the project", example: `["web-*"]`},
	"Window.clusters":               {format: formatNameGlob, otherwise: "every cluster", example: `["production*"]`},
	"Window.reason":                 {format: formatText, example: `"no changes over the weekend"`},
	"ServiceAccount.namespace":      {required: true, format: formatNamespace, example: `"web"`},
	"ServiceAccount.name":           {required: true, format: formatName, example: `"deployer"`},
	"ProjectSpec.windows":           {otherwise: "syncs may run at any time"},
	"Decryption.age":                {otherwise: "none"},
	"Decryption.pgp":                {otherwise: "none"},

	"ProjectSpec.signatures": {otherwise: "nothing has to be signed"},
	"Signatures.mode":        {format: formatSignatureMode, example: `"warn"`},
	"Signatures.commits":     {format: formatSignedCommits, example: `"all"`},
	"Signatures.since":       {format: formatCommit, otherwise: "the revision that was accepted before", example: `"3f2a9c1d0b5e8f7a6c4d2e1f0a9b8c7d6e5f4a3b"`},
	"Signatures.signers":     {otherwise: "none"},
	"Signatures.keys":        {otherwise: "none"},
	"Signatures.artifacts":   {otherwise: "none"},
	"Signer.name":            {required: true, format: formatWord, example: `"Ada <ada@example.org>"`},
	"Signer.key":             {required: true, format: formatSignerKey, example: `"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE2KDDgLdoZdTUqYoXo3xpYyaVKhsG3MLKZmN7fhEeDS"`},
	"Signer.validAfter":      {format: formatTime, otherwise: "any time", example: `"2026-01-01T00:00:00Z"`},
	"Signer.validBefore":     {format: formatTime, otherwise: "any time", example: `"2027-01-01T00:00:00Z"`},
	"ArtifactKey.key":        {format: formatArtifactKey, example: `"-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEhyQCx0E9wQWSFI9ULGwy3BuRklnt\nIqozONbbdbqz11hlRJy9c7SG+hdcFl9jE9uE/dwtuwU2MqU9T/cN0YkWww==\n-----END PUBLIC KEY-----\n"`},

	"PruneLimit.percent":         {min: new(0), max: new(100), example: `30`},
	"PruneLimit.from":            {min: new(0), example: `20`},
	"ProjectSpec.description":    {format: formatText, example: `"What the web team runs."`},
	"ProjectSpec.sources":        {otherwise: "none: no source is allowed"},
	"ProjectSpec.destinations":   {otherwise: "none: no destination is allowed"},
	"ProjectSpec.kinds":          {format: formatKinds, example: `["*"]`},
	"ProjectSpec.clusterKinds":   {format: formatKinds, otherwise: "none", example: `["Namespace", "rbac.authorization.k8s.io/*"]`},
	"ProjectSpec.deniedKinds":    {format: formatKinds, otherwise: "none", example: `["Secret"]`},
	"ProjectSpec.confirm":        {format: formatWord, otherwise: "no confirmation", example: `["7d9f2c"]`},
	"SourceRule.repo":            {required: true, format: formatRepoGlob, example: `"https://github.com/example/*"`},
	"SourceRule.paths":           {format: formatPathGlob, otherwise: "every path", example: `["apps/web/**"]`},
	"DestinationRule.cluster":    {format: formatNameGlob, otherwise: "every cluster", example: `"staging-*"`},
	"DestinationRule.namespaces": {format: formatNameGlob, otherwise: "every namespace", example: `["web", "web-*"]`},

	"ProjectSpec.interactiveManagers": {format: formatWord, example: `["kubectl-edit", "k9s"]`},

	"HealthRuleSpec.kinds":         {required: true, format: formatHealthKind, example: `["example.com/Database"]`},
	"HealthRuleSpec.rules":         {otherwise: "none: all are as otherwise says"},
	"HealthRuleSpec.otherwise":     {format: formatHealth, example: `"Healthy"`},
	"HealthCase.when":              {required: true, format: formatCondition, example: `"conditions.Ready.status == 'True'"`},
	"HealthCase.health":            {required: true, format: formatHealth, example: `"Healthy"`},
	"HealthCase.message":           {format: formatWord, otherwise: "none", example: `"the backup is older than a day"`},
	"HealthCase.messageExpression": {format: formatMessageExpression, otherwise: "none", example: `"conditions.Ready.message"`},

	"ClusterSpec.context":       {format: formatWord, otherwise: "the kubeconfig's current one", example: `"production-admin"`},
	"RepositorySpec.url":        {required: true, format: formatURL, example: `"https://github.com/example/charts"`},
	"RepositorySpec.interval":   {format: formatInterval, example: `"5m"`},
	"RepositoryAuth.username":   {format: formatUsername, otherwise: "git", example: `"belay"`},
	"Reference.file":            {format: formatFile, example: `"/etc/belay/token"`},
	"Reference.env":             {format: formatEnv, example: `"CHARTS_TOKEN"`},
	"SecretReference.namespace": {required: true, format: formatSecretNamespace, example: `"belay"`},
	"SecretReference.name":      {required: true, format: formatSecretName, example: `"charts"`},
	"SecretReference.key":       {required: true, format: formatSecretKey, example: `"token"`},
}

// choices are fields of a type of which at most one, or exactly one, may be there.
var choices = map[string]choice{
	"ApplicationSpec": {fields: []string{"source", "sources"}, exactly: true},
	"Generator":       {fields: []string{"list", "directories", "files", "clusters", "matrix", "merge"}, exactly: true},
	"Patch":           {fields: []string{"patch", "file"}, exactly: true},
	"Source":          {fields: []string{"directory", "kustomize", "helm"}},
	"HealthCase":      {fields: []string{"message", "messageExpression"}},
	"Reference":       {fields: []string{"file", "env", "secret"}, exactly: true},
	"ArtifactKey":     {fields: []string{"key", "from"}, exactly: true},
}

type choice struct {
	fields  []string
	exactly bool
}

// defaults are the values that decoding starts from, for types whose zero value
// is not what an absent field means.
var defaults = map[reflect.Type]func() any{
	reflect.TypeFor[belay.ApplicationSpec]():     func() any { return belay.DefaultApplicationSpec() },
	reflect.TypeFor[belay.ApplicationSetSpec]():  func() any { return belay.DefaultApplicationSetSpec() },
	reflect.TypeFor[belay.ApplicationTemplate](): func() any { return belay.DefaultApplicationTemplate() },
	reflect.TypeFor[belay.ProjectSpec]():         func() any { return belay.DefaultProjectSpec() },
	reflect.TypeFor[belay.RepositorySpec]():      func() any { return belay.DefaultRepositorySpec() },
	reflect.TypeFor[belay.Retry]():               func() any { return belay.DefaultRetry() },
	reflect.TypeFor[belay.AutomaticRollback]():   func() any { return belay.DefaultAutomaticRollback() },
	reflect.TypeFor[belay.RollbackPolicy]():      func() any { return belay.DefaultRollbackPolicy() },
	reflect.TypeFor[belay.Signatures]():          func() any { return belay.DefaultSignatures() },
	reflect.TypeFor[belay.Window]():              func() any { return belay.DefaultWindow() },
	reflect.TypeFor[belay.DirectorySource]():     func() any { return belay.DefaultDirectorySource() },
	reflect.TypeFor[belay.HealthRuleSpec]():      func() any { return belay.DefaultHealthRuleSpec() },
}

// newValue is the value of a type before anything is decoded into it.
func newValue(t reflect.Type) reflect.Value {
	v := reflect.New(t).Elem()
	if f, ok := defaults[t]; ok {
		v.Set(reflect.ValueOf(f()))
	}
	return v
}

// metadata is what every definition says of itself.
type metadata struct {
	Name        string            `json:"name" doc:"Name of the definition, unique among those of its kind."`
	Labels      map[string]string `json:"labels,omitempty" doc:"Labels to select by."`
	Annotations map[string]string `json:"annotations,omitempty" doc:"Notes for people and tools."`
}

// A kind is one kind of definition that this build serves.
type kind struct {
	name string
	doc  string
	spec reflect.Type
	// specRequired is true where the spec has required fields.
	specRequired bool
	// about is shown as the description of the spec.
	about   string
	example string
}

// kinds in the order in which the reference shows them.
var kinds = []*kind{
	{
		name: "Application", spec: reflect.TypeFor[belay.ApplicationSpec](), specRequired: true,
		doc:   "An Application delivers the manifests of one path of a repository to one namespace of one cluster.",
		about: "What is delivered, and where to.",
		example: `apiVersion: belay.dev/v1alpha1
kind: Application
metadata:
  name: guestbook
spec:
  source:
    path: apps/guestbook
  destination:
    namespace: guestbook
`,
	},
	setKind,
	{
		name: "Project", spec: reflect.TypeFor[belay.ProjectSpec](),
		doc: "A Project limits which repositories, paths, clusters, namespaces and kinds its applications may use. " +
			"An empty list allows nothing, except where a field says otherwise.",
		about: "What the applications of the project may use.",
		example: `apiVersion: belay.dev/v1alpha1
kind: Project
metadata:
  name: web
spec:
  description: What the web team runs.
  sources:
    - repo: https://github.com/example/fleet
      paths: ["apps/web/**"]
  destinations:
    - cluster: staging-*
    - cluster: production
      namespaces: [web, "web-*"]
  deniedKinds: [networking.k8s.io/NetworkPolicy]
`,
	},
	{
		name: "Cluster", spec: reflect.TypeFor[belay.ClusterSpec](),
		doc: "A Cluster is a place that applications are delivered to. Without any Cluster there is one, named " + belay.LocalCluster +
			": the cluster that the server itself uses.",
		about: "How the cluster is reached.",
		example: `apiVersion: belay.dev/v1alpha1
kind: Cluster
metadata:
  name: production
spec:
  kubeconfig:
    file: /etc/belay/clusters.kubeconfig
  context: production
`,
	},
	{
		name: "Repository", spec: reflect.TypeFor[belay.RepositorySpec](), specRequired: true,
		doc: "A Repository gives a Git repository, a Helm repository or an OCI registry a name, and says how it is reached. " +
			"Repositories that need no credentials can be named by URL in an Application without being declared.",
		about: "Where the repository is, and how it is reached.",
		example: `apiVersion: belay.dev/v1alpha1
kind: Repository
metadata:
  name: charts
spec:
  url: https://github.com/example/charts
  interval: 5m
  auth:
    username: belay
    password:
      env: CHARTS_TOKEN
`,
	},
	{
		name: "HealthRule", spec: reflect.TypeFor[belay.HealthRuleSpec](), specRequired: true,
		doc: "A HealthRule says how the health of custom objects is told from their status. It counts before the rules that are " +
			"[built in](health.md). The [guide](../guides/health.md) shows how to write one.",
		about: "Which kinds it is for, and what their status means.",
		example: `apiVersion: belay.dev/v1alpha1
kind: HealthRule
metadata:
  name: database
spec:
  kinds: [example.com/Database]
  rules:
    - when: spec.?paused.orValue(false)
      health: Suspended
      message: spec.paused is true
    - when: conditions.Ready.status == 'True'
      health: Healthy
    - when: status.?phase.orValue('') == 'Failed'
      health: Degraded
      messageExpression: conditions.Ready.message
`,
	},
}

// unserved are kinds that Belay will have, but this build has not.
var unserved = []string{"Pipeline", "Policy", "Notification", "Access"}

// Kinds are the kinds of definitions that this build serves.
func Kinds() []string {
	var out []string
	for _, k := range kinds {
		out = append(out, k.name)
	}
	return out
}

func kindNamed(name string) *kind {
	for _, k := range kinds {
		if k.name == name {
			return k
		}
	}
	return nil
}

// A field is one field of a struct type as YAML sees it.
type field struct {
	name  string
	doc   string
	index int
	typ   reflect.Type
	rule  rule
}

var fieldCache sync.Map // reflect.Type -> []field

// fieldsOf lists the fields of a struct type in the order of the type.
func fieldsOf(t reflect.Type) []field {
	if f, ok := fieldCache.Load(t); ok {
		return f.([]field)
	}
	var out []field
	for i := range t.NumField() {
		sf := t.Field(i)
		name, _, _ := strings.Cut(sf.Tag.Get("json"), ",")
		if !sf.IsExported() || name == "" || name == "-" {
			continue
		}
		out = append(out, field{
			name: name, doc: sf.Tag.Get("doc"), index: i, typ: sf.Type,
			rule: rules[t.Name()+"."+name],
		})
	}
	fieldCache.Store(t, out)
	return out
}

// credential says whether values of a type may be credentials that somebody
// wrote where a reference to one belongs.
func credential(t reflect.Type) bool {
	return t == reflect.TypeFor[belay.Reference]() || t == reflect.TypeFor[belay.SecretReference]()
}

//go:generate go run ./gen

// Describe is what a kind is for, and an example in YAML; empty for a kind that
// is not served.
func Describe(kindName string) (doc, example string) {
	if k := kindNamed(kindName); k != nil {
		return k.doc, k.example
	}
	return "", ""
}
