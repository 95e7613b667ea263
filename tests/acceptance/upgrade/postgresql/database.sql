CREATE TABLE public.access_keys (
    access_key character varying(64) NOT NULL,
    user_id character varying(32) NOT NULL,
    secret_encrypted text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    description character varying(255),
    enabled boolean DEFAULT true NOT NULL,
    last_used_at timestamp with time zone
);
CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.blob_locations (
    id bigint NOT NULL,
    address character varying(512) NOT NULL,
    digest character varying(140) NOT NULL,
    repository character varying(255) NOT NULL,
    seen_at timestamp with time zone NOT NULL
);
CREATE SEQUENCE public.blob_locations_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.blob_locations_id_seq OWNED BY public.blob_locations.id;
CREATE TABLE public.blob_uploads (
    address character varying(512) NOT NULL,
    repository character varying(255) NOT NULL,
    digest character varying(140) NOT NULL,
    location text NOT NULL,
    updated_at timestamp with time zone NOT NULL
);
CREATE TABLE public.deliveries (
    id bigint NOT NULL,
    trigger_id bigint NOT NULL,
    event_id character varying(32) NOT NULL,
    occurred_at timestamp with time zone NOT NULL,
    tag character varying(128) NOT NULL,
    digest character varying(140) NOT NULL,
    pushed_by character varying(64),
    status character varying(16) NOT NULL,
    attempts integer NOT NULL,
    due_at timestamp with time zone NOT NULL,
    ended_at timestamp with time zone,
    detail text NOT NULL
);
CREATE SEQUENCE public.deliveries_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.deliveries_id_seq OWNED BY public.deliveries.id;
CREATE TABLE public.domains (
    id character varying(32) NOT NULL,
    name character varying(64) NOT NULL
);
CREATE TABLE public.organization_permissions (
    organization_id bigint NOT NULL,
    user_id character varying(32) NOT NULL,
    auth integer NOT NULL
);
CREATE TABLE public.organizations (
    id bigint NOT NULL,
    region character varying(64) NOT NULL,
    name character varying(64) NOT NULL,
    domain_id character varying(32) NOT NULL,
    creator_id character varying(32) NOT NULL,
    creator_name character varying(64) NOT NULL,
    created_at timestamp with time zone NOT NULL
);
CREATE SEQUENCE public.organizations_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.organizations_id_seq OWNED BY public.organizations.id;
CREATE TABLE public.registry_capabilities (
    address character varying(512) NOT NULL,
    learned_at timestamp with time zone NOT NULL,
    document text NOT NULL
);
CREATE TABLE public.repositories (
    id bigint NOT NULL,
    region character varying(64) NOT NULL,
    namespace character varying(64) NOT NULL,
    name character varying(128) NOT NULL,
    organization_id bigint,
    category character varying(32) NOT NULL,
    description text NOT NULL,
    is_public boolean NOT NULL,
    creator_id character varying(32) NOT NULL,
    creator_name character varying(64) NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL
);
CREATE SEQUENCE public.repositories_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.repositories_id_seq OWNED BY public.repositories.id;
CREATE TABLE public.repository_downloads (
    region character varying(64) NOT NULL,
    namespace character varying(64) NOT NULL,
    name character varying(128) NOT NULL,
    downloads bigint NOT NULL
);
CREATE TABLE public.repository_permissions (
    repository_id bigint NOT NULL,
    user_id character varying(32) NOT NULL,
    auth integer NOT NULL
);
CREATE TABLE public.repository_shares (
    repository_id bigint NOT NULL,
    domain_name character varying(64) NOT NULL,
    description text NOT NULL,
    deadline timestamp with time zone,
    creator_id character varying(32) NOT NULL,
    creator_name character varying(64) NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL
);
CREATE TABLE public.retention_deletions (
    id bigint NOT NULL,
    repository_id bigint NOT NULL,
    policy_id bigint NOT NULL,
    template character varying(16) NOT NULL,
    tag character varying(128) NOT NULL,
    digest character varying(140) NOT NULL,
    created_at timestamp with time zone NOT NULL
);
CREATE SEQUENCE public.retention_deletions_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.retention_deletions_id_seq OWNED BY public.retention_deletions.id;
CREATE TABLE public.retention_policies (
    id bigint NOT NULL,
    repository_id bigint NOT NULL,
    rules json NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    ran_at timestamp with time zone
);
CREATE SEQUENCE public.retention_policies_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.retention_policies_id_seq OWNED BY public.retention_policies.id;
CREATE TABLE public.retention_tags (
    policy_id bigint NOT NULL,
    tag character varying(128) NOT NULL,
    digest character varying(140) NOT NULL,
    pushed_at timestamp with time zone NOT NULL,
    built_at timestamp with time zone NOT NULL,
    is_attachment boolean NOT NULL
);
CREATE TABLE public.sync_jobs (
    id bigint NOT NULL,
    request_id character varying(64) NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    domain_id character varying(32) NOT NULL,
    domain_name character varying(64) NOT NULL,
    operator_id character varying(32) NOT NULL,
    operator_name character varying(64) NOT NULL,
    source_region character varying(64) NOT NULL,
    namespace character varying(64) NOT NULL,
    repository character varying(128) NOT NULL,
    tag character varying(128) NOT NULL,
    target_region character varying(64) NOT NULL,
    target_namespace character varying(64) NOT NULL,
    override boolean NOT NULL,
    status character varying(16) NOT NULL,
    reason text NOT NULL,
    digest character varying(140),
    bytes_total bigint NOT NULL,
    bytes_done bigint NOT NULL,
    rewritten json,
    priority smallint DEFAULT '0'::smallint NOT NULL,
    turn bigint DEFAULT '0'::bigint NOT NULL,
    after_id bigint,
    worker_id bigint,
    starts integer DEFAULT 0 NOT NULL,
    started_at timestamp with time zone,
    ended_at timestamp with time zone,
    deadline_at timestamp with time zone
);
CREATE SEQUENCE public.sync_jobs_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.sync_jobs_id_seq OWNED BY public.sync_jobs.id;
CREATE TABLE public.sync_rule_tags (
    rule_id bigint NOT NULL,
    tag character varying(128) NOT NULL,
    digest character varying(140),
    arrival_id bigint NOT NULL,
    came_through json NOT NULL
);
CREATE TABLE public.sync_rules (
    id bigint NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    domain_id character varying(32) NOT NULL,
    domain_name character varying(64) NOT NULL,
    creator_id character varying(32) NOT NULL,
    source_region character varying(64) NOT NULL,
    namespace character varying(64) NOT NULL,
    repository character varying(128) NOT NULL,
    target_region character varying(64) NOT NULL,
    target_namespace character varying(64) NOT NULL,
    source_organization_id bigint,
    target_organization_id bigint,
    override boolean NOT NULL,
    sync_auto boolean NOT NULL,
    arrival_id bigint NOT NULL
);
CREATE SEQUENCE public.sync_rules_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.sync_rules_id_seq OWNED BY public.sync_rules.id;
CREATE TABLE public.tokens (
    token_hash character varying(64) NOT NULL,
    user_id character varying(32) NOT NULL,
    issued_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    method character varying(16) DEFAULT 'password'::character varying NOT NULL,
    access_key character varying(64),
    project character varying(64)
);
CREATE TABLE public.trigger_tags (
    trigger_id bigint NOT NULL,
    tag character varying(128) NOT NULL,
    digest character varying(140) NOT NULL
);
CREATE TABLE public.triggers (
    id bigint NOT NULL,
    repository_id bigint NOT NULL,
    name character varying(64) NOT NULL,
    enabled boolean NOT NULL,
    action character varying(16) NOT NULL,
    trigger_type character varying(16) NOT NULL,
    condition text NOT NULL,
    trigger_mode character varying(16) NOT NULL,
    cluster_id character varying(128) NOT NULL,
    cluster_name character varying(128) NOT NULL,
    cluster_ns character varying(63) NOT NULL,
    app_type character varying(16) NOT NULL,
    application character varying(253) NOT NULL,
    container character varying(253) NOT NULL,
    creator_id character varying(32) NOT NULL,
    creator_name character varying(64) NOT NULL,
    created_at timestamp with time zone NOT NULL
);
CREATE SEQUENCE public.triggers_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.triggers_id_seq OWNED BY public.triggers.id;
CREATE TABLE public.users (
    id character varying(32) NOT NULL,
    domain_id character varying(32) NOT NULL,
    name character varying(64) NOT NULL,
    password_hash character varying(255) NOT NULL,
    is_admin boolean NOT NULL,
    created_at timestamp with time zone NOT NULL,
    enabled boolean DEFAULT true NOT NULL,
    description character varying(255)
);
CREATE TABLE public.workers (
    id bigint NOT NULL,
    name character varying(255) NOT NULL,
    started_at timestamp with time zone NOT NULL
);
CREATE SEQUENCE public.workers_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.workers_id_seq OWNED BY public.workers.id;
ALTER TABLE ONLY public.blob_locations ALTER COLUMN id SET DEFAULT nextval('public.blob_locations_id_seq'::regclass);
ALTER TABLE ONLY public.deliveries ALTER COLUMN id SET DEFAULT nextval('public.deliveries_id_seq'::regclass);
ALTER TABLE ONLY public.organizations ALTER COLUMN id SET DEFAULT nextval('public.organizations_id_seq'::regclass);
ALTER TABLE ONLY public.repositories ALTER COLUMN id SET DEFAULT nextval('public.repositories_id_seq'::regclass);
ALTER TABLE ONLY public.retention_deletions ALTER COLUMN id SET DEFAULT nextval('public.retention_deletions_id_seq'::regclass);
ALTER TABLE ONLY public.retention_policies ALTER COLUMN id SET DEFAULT nextval('public.retention_policies_id_seq'::regclass);
ALTER TABLE ONLY public.sync_jobs ALTER COLUMN id SET DEFAULT nextval('public.sync_jobs_id_seq'::regclass);
ALTER TABLE ONLY public.sync_rules ALTER COLUMN id SET DEFAULT nextval('public.sync_rules_id_seq'::regclass);
ALTER TABLE ONLY public.triggers ALTER COLUMN id SET DEFAULT nextval('public.triggers_id_seq'::regclass);
ALTER TABLE ONLY public.workers ALTER COLUMN id SET DEFAULT nextval('public.workers_id_seq'::regclass);
INSERT INTO public.access_keys VALUES ('T2OGFHKZCSZD3E7LXG8B', 'cf1107c500bd42bd9299730375ea695d', 'gAAAAABrCwxeWltrkjJZmlKYVpAs18W_fPZnM8mNJnZIStMdA0l2KCBl3dwAQ-h9TVJm5uTlhCvIBrOu38p4mEQK2XQr9Xt4wNx9z98lp58x-pxYmUeVI4-1FnX3bH0Ff36UxjHm6yai', '2025-01-01 17:16:14.19669+00', '', true, NULL);
INSERT INTO public.access_keys VALUES ('T8PNMJAGBX1X84L3OS9L', 'cef1cbaad88a402bbf53f7916b67036e', 'gAAAAABrCwyH6krL42mvOojJ2eCz4lOvHWnq788VkKAnNiNsuxT7wlVBnm0XjMyuOMLrvSC7sy9CHvhF0F5JxFcIhN0OJb2GPaEuLNCjEVWBz43ll8HlBs6U-b7mLj2yOoxVuxs0btSH', '2025-01-01 17:16:55.197695+00', 'continuous integration', true, NULL);
INSERT INTO public.alembic_version VALUES ('0013');
INSERT INTO public.blob_locations VALUES (1, 'http://127.0.0.1:36867', 'sha256:03cbb3492f0fdd4a3e82977671ac45fffb13e6766a3e1033554ded226ff71128', 'release/app', '2025-01-01 17:18:14.787162+00');
INSERT INTO public.blob_locations VALUES (2, 'http://127.0.0.1:36867', 'sha256:bcc273a0967acfd7f83763851a3bb91af2c7027f2a7c29dde0e5a4ec13f14c21', 'release/app', '2025-01-01 17:18:14.78873+00');
INSERT INTO public.blob_locations VALUES (3, 'http://127.0.0.1:36867', 'sha256:cf9f875723f426efd7f130a034de9cda2454b5bc8470aacaf9db70209d0cc15b', 'copies/app', '2025-01-01 17:18:15.644458+00');
INSERT INTO public.blob_locations VALUES (4, 'http://127.0.0.1:36867', 'sha256:cf9f875723f426efd7f130a034de9cda2454b5bc8470aacaf9db70209d0cc15b', 'release/app', '2025-01-01 17:18:13.997331+00');
INSERT INTO public.blob_locations VALUES (5, 'http://127.0.0.1:36867', 'sha256:df875c6fb4df55c8c0c62a773baf3c90e23e82047f0841ca955a572f96bc9c9f', 'copies/app', '2025-01-01 17:18:15.644134+00');
INSERT INTO public.blob_locations VALUES (6, 'http://127.0.0.1:36867', 'sha256:df875c6fb4df55c8c0c62a773baf3c90e23e82047f0841ca955a572f96bc9c9f', 'release/app', '2025-01-01 17:18:13.965112+00');
INSERT INTO public.blob_locations VALUES (7, 'http://127.0.0.1:43991', 'sha256:03cbb3492f0fdd4a3e82977671ac45fffb13e6766a3e1033554ded226ff71128', 'archive/app', '2025-01-01 17:18:15.041329+00');
INSERT INTO public.blob_locations VALUES (8, 'http://127.0.0.1:43991', 'sha256:bcc273a0967acfd7f83763851a3bb91af2c7027f2a7c29dde0e5a4ec13f14c21', 'archive/app', '2025-01-01 17:18:15.038664+00');
INSERT INTO public.blob_locations VALUES (9, 'http://127.0.0.1:43991', 'sha256:cf9f875723f426efd7f130a034de9cda2454b5bc8470aacaf9db70209d0cc15b', 'archive/app', '2025-01-01 17:18:14.459003+00');
INSERT INTO public.blob_locations VALUES (10, 'http://127.0.0.1:43991', 'sha256:df875c6fb4df55c8c0c62a773baf3c90e23e82047f0841ca955a572f96bc9c9f', 'archive/app', '2025-01-01 17:18:14.463661+00');
INSERT INTO public.deliveries VALUES (2, 1, 'fb20ecbbe027476daca4ef8a1ae48b2d', '2025-01-01 17:18:14.462901+00', 'v2', 'sha256:0ec98e32bdec392149d342d76f3c1372d5131ca6f560f351f184da503d7d33d6', 'admin', 'waiting', 2, '2025-01-01 17:18:16.753414+00', NULL, 'attempt 2 of 20: the webhook could not be reached');
INSERT INTO public.deliveries VALUES (1, 1, '6ddade126e354383bb86ca70fa3e7e17', '2025-01-01 17:18:13.417582+00', 'v1', 'sha256:d3bf2b8190466ff9b2ebe7d45fa4abc7c1416d3cb2c1a4b12aacf264a552faca', 'admin', 'waiting', 3, '2025-01-01 17:18:19.441628+00', NULL, 'attempt 3 of 20: the webhook could not be reached');
INSERT INTO public.domains VALUES ('de5409151caf47928256bbcf8e4d5c2a', 'tagferry');
INSERT INTO public.domains VALUES ('dc3c8e8b88794b8f8f2650b0247ede64', 'partners');
INSERT INTO public.organization_permissions VALUES (1, 'cf1107c500bd42bd9299730375ea695d', 7);
INSERT INTO public.organization_permissions VALUES (2, 'cf1107c500bd42bd9299730375ea695d', 7);
INSERT INTO public.organization_permissions VALUES (3, 'cf1107c500bd42bd9299730375ea695d', 7);
INSERT INTO public.organization_permissions VALUES (4, 'cf1107c500bd42bd9299730375ea695d', 7);
INSERT INTO public.organization_permissions VALUES (1, 'cef1cbaad88a402bbf53f7916b67036e', 3);
INSERT INTO public.organizations VALUES (1, 'cn-north-4', 'team', 'de5409151caf47928256bbcf8e4d5c2a', 'cf1107c500bd42bd9299730375ea695d', 'admin', '2025-01-01 17:17:07.824442+00');
INSERT INTO public.organizations VALUES (2, 'cn-north-4', 'archive', 'de5409151caf47928256bbcf8e4d5c2a', 'cf1107c500bd42bd9299730375ea695d', 'admin', '2025-01-01 17:17:19.624743+00');
INSERT INTO public.organizations VALUES (3, 'cn-north-208', 'release', 'de5409151caf47928256bbcf8e4d5c2a', 'cf1107c500bd42bd9299730375ea695d', 'admin', '2025-01-01 17:17:31.262172+00');
INSERT INTO public.organizations VALUES (4, 'cn-north-208', 'copies', 'de5409151caf47928256bbcf8e4d5c2a', 'cf1107c500bd42bd9299730375ea695d', 'admin', '2025-01-01 17:17:47.006332+00');
INSERT INTO public.repositories VALUES (1, 'cn-north-4', 'team', 'app', 1, 'linux', 'the team''s application', false, 'cf1107c500bd42bd9299730375ea695d', 'admin', '2025-01-01 17:18:11.218939+00', '2025-01-01 17:18:11.218939+00');
INSERT INTO public.repositories VALUES (2, 'cn-north-4', 'team', 'old', 1, 'linux', '', false, 'cf1107c500bd42bd9299730375ea695d', 'admin', '2025-01-01 17:18:11.306463+00', '2025-01-01 17:18:11.306463+00');
INSERT INTO public.repositories VALUES (3, 'cn-north-208', 'release', 'app', 3, 'linux', 'the team''s application', false, 'cf1107c500bd42bd9299730375ea695d', 'admin', '2025-01-01 17:18:12.105225+00', '2025-01-01 17:18:12.105225+00');
INSERT INTO public.repository_permissions VALUES (1, 'cef1cbaad88a402bbf53f7916b67036e', 7);
INSERT INTO public.repository_shares VALUES (1, 'partners', 'for partners', NULL, 'cf1107c500bd42bd9299730375ea695d', 'admin', '2025-01-01 17:18:12.320013+00', '2025-01-01 17:18:12.320013+00');
INSERT INTO public.retention_deletions VALUES (1, 2, 1, 'tag_rule', 'v1', 'sha256:b37ca9181e41ba92f8b3f4499d4f4a584953c3cfe45820d8eeeddca0a7e809cf', '2025-01-01 17:18:15.320009+00');
INSERT INTO public.retention_policies VALUES (1, 2, '[{"template": "tag_rule", "params": {"num": "1"}, "tag_selectors": []}]', '2025-01-01 17:18:15.197531+00', '2025-01-01 17:18:15.197531+00', '2025-01-01 17:18:15.216435+00');
INSERT INTO public.retention_tags VALUES (1, 'v2', 'sha256:6b3dca90d3c10a573f3fea14d128cf8e1cf1e2dddee3bfcb08c9a42e8532a923', '2025-01-01 17:18:14.79109+00', '2024-01-01 00:00:00+00', false);
INSERT INTO public.retention_tags VALUES (1, 'v1', 'sha256:b37ca9181e41ba92f8b3f4499d4f4a584953c3cfe45820d8eeeddca0a7e809cf', '2025-01-01 17:18:13.983864+00', '2024-01-01 00:00:00+00', false);
INSERT INTO public.sync_jobs VALUES (1, 'rule-1-4186247407aa48f6', '2025-01-01 17:18:13.719338+00', '2025-01-01 17:18:14.037678+00', 'de5409151caf47928256bbcf8e4d5c2a', 'tagferry', 'cf1107c500bd42bd9299730375ea695d', 'admin', 'cn-north-4', 'team', 'app', 'v1', 'cn-north-208', 'release', true, 'success', 'copied and verified', 'sha256:d3bf2b8190466ff9b2ebe7d45fa4abc7c1416d3cb2c1a4b12aacf264a552faca', 202, 202, NULL, 1, 1, NULL, NULL, 1, '2025-01-01 17:18:13.799302+00', '2025-01-01 17:18:14.037678+00', '2121-12-22 22:38:13.719338+00');
INSERT INTO public.sync_jobs VALUES (2, 'rule-2-92086f08be3143b2', '2025-01-01 17:18:14.404812+00', '2025-01-01 17:18:14.521279+00', 'de5409151caf47928256bbcf8e4d5c2a', 'tagferry', 'cf1107c500bd42bd9299730375ea695d', 'admin', 'cn-north-208', 'release', 'app', 'v1', 'cn-north-4', 'archive', true, 'success', 'copied and verified', 'sha256:d3bf2b8190466ff9b2ebe7d45fa4abc7c1416d3cb2c1a4b12aacf264a552faca', 202, 202, NULL, 1, 1, NULL, NULL, 1, '2025-01-01 17:18:14.412587+00', '2025-01-01 17:18:14.521279+00', '2121-12-22 22:38:14.404812+00');
INSERT INTO public.sync_jobs VALUES (3, 'rule-1-673a0303658346e5', '2025-01-01 17:18:14.753113+00', '2025-01-01 17:18:14.792357+00', 'de5409151caf47928256bbcf8e4d5c2a', 'tagferry', 'cf1107c500bd42bd9299730375ea695d', 'admin', 'cn-north-4', 'team', 'app', 'v2', 'cn-north-208', 'release', true, 'success', 'copied and verified', 'sha256:0ec98e32bdec392149d342d76f3c1372d5131ca6f560f351f184da503d7d33d6', 202, 202, NULL, 1, 1, NULL, NULL, 1, '2025-01-01 17:18:14.758051+00', '2025-01-01 17:18:14.792357+00', '2121-12-22 22:38:14.753113+00');
INSERT INTO public.sync_jobs VALUES (4, 'rule-2-a8ff7498e0124204', '2025-01-01 17:18:14.966829+00', '2025-01-01 17:18:15.043937+00', 'de5409151caf47928256bbcf8e4d5c2a', 'tagferry', 'cf1107c500bd42bd9299730375ea695d', 'admin', 'cn-north-208', 'release', 'app', 'v2', 'cn-north-4', 'archive', true, 'success', 'copied and verified', 'sha256:0ec98e32bdec392149d342d76f3c1372d5131ca6f560f351f184da503d7d33d6', 202, 202, NULL, 1, 1, NULL, NULL, 1, '2025-01-01 17:18:14.980956+00', '2025-01-01 17:18:15.043937+00', '2121-12-22 22:38:14.966829+00');
INSERT INTO public.sync_jobs VALUES (5, '523a3e295d0242c6b8da5e4308d1d534', '2025-01-01 17:18:15.558271+00', '2025-01-01 17:18:15.68599+00', 'de5409151caf47928256bbcf8e4d5c2a', 'tagferry', 'cf1107c500bd42bd9299730375ea695d', 'admin', 'cn-north-4', 'team', 'app', 'v1', 'cn-north-208', 'copies', false, 'success', 'copied and verified', 'sha256:d3bf2b8190466ff9b2ebe7d45fa4abc7c1416d3cb2c1a4b12aacf264a552faca', 202, 202, NULL, 0, 1, NULL, NULL, 1, '2025-01-01 17:18:15.593355+00', '2025-01-01 17:18:15.68599+00', '2121-12-22 22:38:15.558271+00');
INSERT INTO public.sync_jobs VALUES (6, '523a3e295d0242c6b8da5e4308d1d534', '2025-01-01 17:18:15.558271+00', '2025-01-01 17:18:15.822613+00', 'de5409151caf47928256bbcf8e4d5c2a', 'tagferry', 'cf1107c500bd42bd9299730375ea695d', 'admin', 'cn-north-4', 'team', 'app', 'none', 'cn-north-208', 'copies', false, 'failed', 'the tag does not exist in the source repository', NULL, 0, 0, NULL, 0, 2, NULL, NULL, 1, '2025-01-01 17:18:15.80668+00', '2025-01-01 17:18:15.822613+00', '2121-12-22 22:38:15.558271+00');
INSERT INTO public.sync_jobs VALUES (8, '276954acb02d40e7bc0e41490b9fb01d', '2025-01-01 17:18:16.266782+00', '2025-01-01 17:18:16.266782+00', 'de5409151caf47928256bbcf8e4d5c2a', 'tagferry', 'cf1107c500bd42bd9299730375ea695d', 'admin', 'cn-north-4', 'team', 'app', 'v2', 'eu-west-1', 'backup', false, 'waiting', '', NULL, 0, 0, NULL, 0, 2, NULL, NULL, 0, NULL, NULL, '2121-12-22 22:38:16.266782+00');
INSERT INTO public.sync_jobs VALUES (7, '276954acb02d40e7bc0e41490b9fb01d', '2025-01-01 17:18:16.266782+00', '2025-01-01 17:18:16.367347+00', 'de5409151caf47928256bbcf8e4d5c2a', 'tagferry', 'cf1107c500bd42bd9299730375ea695d', 'admin', 'cn-north-4', 'team', 'app', 'v1', 'eu-west-1', 'backup', false, 'running', '', NULL, 0, 0, NULL, 0, 1, NULL, 1, 1, '2025-01-01 17:18:16.367347+00', NULL, '2121-12-22 22:38:16.266782+00');
INSERT INTO public.sync_jobs VALUES (9, '75221f40f16c47f39e096860691ac41c', '2025-01-01 17:18:16.584812+00', '2025-01-01 17:18:16.584812+00', 'de5409151caf47928256bbcf8e4d5c2a', 'tagferry', 'cf1107c500bd42bd9299730375ea695d', 'admin', 'cn-north-4', 'team', 'app', 'v1', 'eu-west-1', 'backup', true, 'waiting', '', NULL, 0, 0, NULL, 0, 3, 7, NULL, 0, NULL, NULL, '2121-12-22 22:38:16.584812+00');
INSERT INTO public.sync_jobs VALUES (10, '75221f40f16c47f39e096860691ac41c', '2025-01-01 17:18:16.584812+00', '2025-01-01 17:18:16.584812+00', 'de5409151caf47928256bbcf8e4d5c2a', 'tagferry', 'cf1107c500bd42bd9299730375ea695d', 'admin', 'cn-north-4', 'team', 'app', 'v2', 'eu-west-1', 'backup', true, 'waiting', '', NULL, 0, 0, NULL, 0, 4, 8, NULL, 0, NULL, NULL, '2121-12-22 22:38:16.584812+00');
INSERT INTO public.sync_rule_tags VALUES (1, 'v1', 'sha256:d3bf2b8190466ff9b2ebe7d45fa4abc7c1416d3cb2c1a4b12aacf264a552faca', 0, '[]');
INSERT INTO public.sync_rule_tags VALUES (2, 'v1', 'sha256:d3bf2b8190466ff9b2ebe7d45fa4abc7c1416d3cb2c1a4b12aacf264a552faca', 1, '["cn-north-4/team"]');
INSERT INTO public.sync_rule_tags VALUES (1, 'v2', 'sha256:0ec98e32bdec392149d342d76f3c1372d5131ca6f560f351f184da503d7d33d6', 0, '[]');
INSERT INTO public.sync_rule_tags VALUES (2, 'v2', 'sha256:0ec98e32bdec392149d342d76f3c1372d5131ca6f560f351f184da503d7d33d6', 3, '["cn-north-4/team"]');
INSERT INTO public.sync_rules VALUES (1, '2025-01-01 17:18:12.356911+00', '2025-01-01 17:18:12.356911+00', 'de5409151caf47928256bbcf8e4d5c2a', 'tagferry', 'cf1107c500bd42bd9299730375ea695d', 'cn-north-4', 'team', 'app', 'cn-north-208', 'release', 1, 3, true, true, 0);
INSERT INTO public.sync_rules VALUES (2, '2025-01-01 17:18:12.604731+00', '2025-01-01 17:18:12.604731+00', 'de5409151caf47928256bbcf8e4d5c2a', 'tagferry', 'cf1107c500bd42bd9299730375ea695d', 'cn-north-208', 'release', 'app', 'cn-north-4', 'archive', 3, 2, true, true, 0);
INSERT INTO public.tokens VALUES ('847122a7ee85a138476e64a53a0e668d6f9ebb5e1969c520ff4890f24b1af09f', 'cf1107c500bd42bd9299730375ea695d', '2025-01-01 17:18:10.573282+00', '2126-11-04 17:18:10.573282+00', 'password', NULL, NULL);
INSERT INTO public.trigger_tags VALUES (1, 'v1', 'sha256:d3bf2b8190466ff9b2ebe7d45fa4abc7c1416d3cb2c1a4b12aacf264a552faca');
INSERT INTO public.trigger_tags VALUES (1, 'v2', 'sha256:0ec98e32bdec392149d342d76f3c1372d5131ca6f560f351f184da503d7d33d6');
INSERT INTO public.triggers VALUES (1, 1, 'deploy', true, 'update', 'all', '.*', 'cce', '', 'production', 'default', 'deployments', 'web', '', 'cf1107c500bd42bd9299730375ea695d', 'admin', '2025-01-01 17:18:12.756103+00');
INSERT INTO public.users VALUES ('cf1107c500bd42bd9299730375ea695d', 'de5409151caf47928256bbcf8e4d5c2a', 'admin', '$argon2id$v=19$m=19456,t=2,p=1$D1F05vqZm093Wk6Ih+WcgQ$AFS1How3h4KcwL9sDn5d4AlONQIghWc5PBANxwMA68c', true, '2025-01-01 17:16:14.165065+00', true, '');
INSERT INTO public.users VALUES ('cef1cbaad88a402bbf53f7916b67036e', 'de5409151caf47928256bbcf8e4d5c2a', 'carol', '$argon2id$v=19$m=19456,t=2,p=1$9Fa9epraCIEqCpiV9z0ktw$rKSmTDPw4gPD3RPsIrKGV9Ntqc3tSsD9MorvBMW+sbk', false, '2025-01-01 17:16:26.712371+00', true, '');
INSERT INTO public.users VALUES ('d38065302fad4a9d9e18caad3a3f3e22', 'dc3c8e8b88794b8f8f2650b0247ede64', 'dora', '$argon2id$v=19$m=19456,t=2,p=1$2vbXKKzCL5KmH+515ESrfg$QfEFmKh7pXSeNvwW43fBk2OfBUgGnxeuuo99d8hM/Ws', false, '2025-01-01 17:16:41.071317+00', true, '');
INSERT INTO public.workers VALUES (1, 'vm:9078', '2025-01-01 17:18:09.356943+00');
SELECT pg_catalog.setval('public.blob_locations_id_seq', 10, true);
SELECT pg_catalog.setval('public.deliveries_id_seq', 2, true);
SELECT pg_catalog.setval('public.organizations_id_seq', 4, true);
SELECT pg_catalog.setval('public.repositories_id_seq', 3, true);
SELECT pg_catalog.setval('public.retention_deletions_id_seq', 1, true);
SELECT pg_catalog.setval('public.retention_policies_id_seq', 1, true);
SELECT pg_catalog.setval('public.sync_jobs_id_seq', 10, true);
SELECT pg_catalog.setval('public.sync_rules_id_seq', 2, true);
SELECT pg_catalog.setval('public.triggers_id_seq', 1, true);
SELECT pg_catalog.setval('public.workers_id_seq', 1, true);
ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.access_keys
    ADD CONSTRAINT pk_access_keys PRIMARY KEY (access_key);
ALTER TABLE ONLY public.blob_locations
    ADD CONSTRAINT pk_blob_locations PRIMARY KEY (id);
ALTER TABLE ONLY public.blob_uploads
    ADD CONSTRAINT pk_blob_uploads PRIMARY KEY (address, repository, digest);
ALTER TABLE ONLY public.deliveries
    ADD CONSTRAINT pk_deliveries PRIMARY KEY (id);
ALTER TABLE ONLY public.domains
    ADD CONSTRAINT pk_domains PRIMARY KEY (id);
ALTER TABLE ONLY public.organization_permissions
    ADD CONSTRAINT pk_organization_permissions PRIMARY KEY (organization_id, user_id);
ALTER TABLE ONLY public.organizations
    ADD CONSTRAINT pk_organizations PRIMARY KEY (id);
ALTER TABLE ONLY public.registry_capabilities
    ADD CONSTRAINT pk_registry_capabilities PRIMARY KEY (address);
ALTER TABLE ONLY public.repositories
    ADD CONSTRAINT pk_repositories PRIMARY KEY (id);
ALTER TABLE ONLY public.repository_downloads
    ADD CONSTRAINT pk_repository_downloads PRIMARY KEY (region, namespace, name);
ALTER TABLE ONLY public.repository_permissions
    ADD CONSTRAINT pk_repository_permissions PRIMARY KEY (repository_id, user_id);
ALTER TABLE ONLY public.repository_shares
    ADD CONSTRAINT pk_repository_shares PRIMARY KEY (repository_id, domain_name);
ALTER TABLE ONLY public.retention_deletions
    ADD CONSTRAINT pk_retention_deletions PRIMARY KEY (id);
ALTER TABLE ONLY public.retention_policies
    ADD CONSTRAINT pk_retention_policies PRIMARY KEY (id);
ALTER TABLE ONLY public.retention_tags
    ADD CONSTRAINT pk_retention_tags PRIMARY KEY (policy_id, tag);
ALTER TABLE ONLY public.sync_jobs
    ADD CONSTRAINT pk_sync_jobs PRIMARY KEY (id);
ALTER TABLE ONLY public.sync_rule_tags
    ADD CONSTRAINT pk_sync_rule_tags PRIMARY KEY (rule_id, tag);
ALTER TABLE ONLY public.sync_rules
    ADD CONSTRAINT pk_sync_rules PRIMARY KEY (id);
ALTER TABLE ONLY public.tokens
    ADD CONSTRAINT pk_tokens PRIMARY KEY (token_hash);
ALTER TABLE ONLY public.trigger_tags
    ADD CONSTRAINT pk_trigger_tags PRIMARY KEY (trigger_id, tag);
ALTER TABLE ONLY public.triggers
    ADD CONSTRAINT pk_triggers PRIMARY KEY (id);
ALTER TABLE ONLY public.users
    ADD CONSTRAINT pk_users PRIMARY KEY (id);
ALTER TABLE ONLY public.workers
    ADD CONSTRAINT pk_workers PRIMARY KEY (id);
ALTER TABLE ONLY public.blob_locations
    ADD CONSTRAINT uq_blob_locations_place UNIQUE (address, digest, repository);
ALTER TABLE ONLY public.domains
    ADD CONSTRAINT uq_domains_name UNIQUE (name);
ALTER TABLE ONLY public.organizations
    ADD CONSTRAINT uq_organizations_region_name UNIQUE (region, name);
ALTER TABLE ONLY public.repositories
    ADD CONSTRAINT uq_repositories_place UNIQUE (region, namespace, name);
ALTER TABLE ONLY public.retention_policies
    ADD CONSTRAINT uq_retention_policies_repository_id UNIQUE (repository_id);
ALTER TABLE ONLY public.sync_rules
    ADD CONSTRAINT uq_sync_rules_way UNIQUE (source_region, namespace, repository, target_region, target_namespace);
ALTER TABLE ONLY public.triggers
    ADD CONSTRAINT uq_triggers_name UNIQUE (repository_id, name);
ALTER TABLE ONLY public.users
    ADD CONSTRAINT uq_users_name UNIQUE (name);
CREATE INDEX ix_access_keys_user_id ON public.access_keys USING btree (user_id);
CREATE INDEX ix_blob_locations_seen_at ON public.blob_locations USING btree (seen_at);
CREATE INDEX ix_blob_uploads_updated_at ON public.blob_uploads USING btree (updated_at);
CREATE INDEX ix_deliveries_due ON public.deliveries USING btree (due_at, id) WHERE ((status)::text = 'waiting'::text);
CREATE INDEX ix_deliveries_ended_at ON public.deliveries USING btree (ended_at);
CREATE INDEX ix_deliveries_trigger ON public.deliveries USING btree (trigger_id, id);
CREATE INDEX ix_repositories_organization_id ON public.repositories USING btree (organization_id);
CREATE INDEX ix_retention_deletions_created_at ON public.retention_deletions USING btree (created_at);
CREATE INDEX ix_retention_deletions_repository_id ON public.retention_deletions USING btree (repository_id, id);
CREATE INDEX ix_sync_jobs_after_id ON public.sync_jobs USING btree (after_id) WHERE (after_id IS NOT NULL);
CREATE INDEX ix_sync_jobs_ended_at ON public.sync_jobs USING btree (ended_at);
CREATE INDEX ix_sync_jobs_operator ON public.sync_jobs USING btree (operator_id) WHERE ((status)::text = ANY ((ARRAY['waiting'::character varying, 'running'::character varying])::text[]));
CREATE INDEX ix_sync_jobs_queue ON public.sync_jobs USING btree (status, priority, turn, id);
CREATE INDEX ix_sync_jobs_repository ON public.sync_jobs USING btree (source_region, namespace, repository, id);
CREATE INDEX ix_sync_jobs_request_id ON public.sync_jobs USING btree (request_id);
CREATE INDEX ix_sync_jobs_target ON public.sync_jobs USING btree (target_region, target_namespace, repository, tag, id);
CREATE INDEX ix_sync_jobs_way ON public.sync_jobs USING btree (source_region, namespace, repository, tag, target_region, target_namespace) WHERE ((status)::text = ANY ((ARRAY['waiting'::character varying, 'running'::character varying])::text[]));
CREATE INDEX ix_tokens_expires_at ON public.tokens USING btree (expires_at);
CREATE INDEX ix_tokens_user_id ON public.tokens USING btree (user_id);
ALTER TABLE ONLY public.access_keys
    ADD CONSTRAINT fk_access_keys_user_id_users FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.deliveries
    ADD CONSTRAINT fk_deliveries_trigger_id_triggers FOREIGN KEY (trigger_id) REFERENCES public.triggers(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.organization_permissions
    ADD CONSTRAINT fk_organization_permissions_organization_id_organizations FOREIGN KEY (organization_id) REFERENCES public.organizations(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.organization_permissions
    ADD CONSTRAINT fk_organization_permissions_user_id_users FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.organizations
    ADD CONSTRAINT fk_organizations_domain_id_domains FOREIGN KEY (domain_id) REFERENCES public.domains(id);
ALTER TABLE ONLY public.repositories
    ADD CONSTRAINT fk_repositories_organization_id_organizations FOREIGN KEY (organization_id) REFERENCES public.organizations(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.repository_permissions
    ADD CONSTRAINT fk_repository_permissions_repository_id_repositories FOREIGN KEY (repository_id) REFERENCES public.repositories(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.repository_permissions
    ADD CONSTRAINT fk_repository_permissions_user_id_users FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.repository_shares
    ADD CONSTRAINT fk_repository_shares_repository_id_repositories FOREIGN KEY (repository_id) REFERENCES public.repositories(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.retention_deletions
    ADD CONSTRAINT fk_retention_deletions_repository_id_repositories FOREIGN KEY (repository_id) REFERENCES public.repositories(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.retention_policies
    ADD CONSTRAINT fk_retention_policies_repository_id_repositories FOREIGN KEY (repository_id) REFERENCES public.repositories(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.retention_tags
    ADD CONSTRAINT fk_retention_tags_policy_id_retention_policies FOREIGN KEY (policy_id) REFERENCES public.retention_policies(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.sync_rule_tags
    ADD CONSTRAINT fk_sync_rule_tags_rule_id_sync_rules FOREIGN KEY (rule_id) REFERENCES public.sync_rules(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.sync_rules
    ADD CONSTRAINT fk_sync_rules_source_organization_id_organizations FOREIGN KEY (source_organization_id) REFERENCES public.organizations(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.sync_rules
    ADD CONSTRAINT fk_sync_rules_target_organization_id_organizations FOREIGN KEY (target_organization_id) REFERENCES public.organizations(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.tokens
    ADD CONSTRAINT fk_tokens_user_id_users FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.trigger_tags
    ADD CONSTRAINT fk_trigger_tags_trigger_id_triggers FOREIGN KEY (trigger_id) REFERENCES public.triggers(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.triggers
    ADD CONSTRAINT fk_triggers_repository_id_repositories FOREIGN KEY (repository_id) REFERENCES public.repositories(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.users
    ADD CONSTRAINT fk_users_domain_id_domains FOREIGN KEY (domain_id) REFERENCES public.domains(id);
