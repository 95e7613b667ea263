BEGIN TRANSACTION;
CREATE TABLE access_keys (
	access_key VARCHAR(64) NOT NULL, 
	user_id VARCHAR(32) NOT NULL, 
	secret_encrypted TEXT NOT NULL, 
	created_at DATETIME NOT NULL, description VARCHAR(255), enabled BOOLEAN DEFAULT true NOT NULL, last_used_at DATETIME, 
	CONSTRAINT pk_access_keys PRIMARY KEY (access_key), 
	CONSTRAINT fk_access_keys_user_id_users FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE
);
INSERT INTO "access_keys" VALUES('TSTI6P40HTO2PHIU0VJS','5a04a24aa4a5431984df9c01b34ef089','gAAAAABrCwv03LctOaUq3Iv3PdFXuYLtVK7p-mcempN2-WGB_OqFc4cP7d0Q1Qft2dUf4V_X5cFbV44ud6-txW93TCMvM87YmRoEu1K359P2mefrMeloIyb1K7RQ3TqN3rhQ9zbkbTvS','2025-01-01 17:14:28.664160','',1,NULL);
INSERT INTO "access_keys" VALUES('H4DHT5P69L0ZIAN1GFDT','32c395ab18764189a3910d9669889234','gAAAAABrCwwRxy6-nUT8CipbItCHd4XZHb-RBgqVWyiPA3I9QxMk4E21cPHBHUtJ3ulJZvOcOk-9s0CdWnhtWD8icIQ28JYlO9XGQObfGPcRhy1B5xL4Lh8CIlAGx6kjmGA-DUYpZq0Q','2025-01-01 17:14:57.158783','continuous integration',1,NULL);
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0013');
CREATE TABLE blob_locations (
	id INTEGER NOT NULL, 
	address VARCHAR(512) NOT NULL, 
	digest VARCHAR(140) NOT NULL, 
	repository VARCHAR(255) NOT NULL, 
	seen_at DATETIME NOT NULL, 
	CONSTRAINT pk_blob_locations PRIMARY KEY (id), 
	CONSTRAINT uq_blob_locations_place UNIQUE (address, digest, repository)
);
CREATE TABLE blob_uploads (
	address VARCHAR(512) NOT NULL, 
	repository VARCHAR(255) NOT NULL, 
	digest VARCHAR(140) NOT NULL, 
	location TEXT NOT NULL, 
	updated_at DATETIME NOT NULL, 
	CONSTRAINT pk_blob_uploads PRIMARY KEY (address, repository, digest)
);
CREATE TABLE deliveries (
	id INTEGER NOT NULL, 
	trigger_id INTEGER NOT NULL, 
	event_id VARCHAR(32) NOT NULL, 
	occurred_at DATETIME NOT NULL, 
	tag VARCHAR(128) NOT NULL, 
	digest VARCHAR(140) NOT NULL, 
	pushed_by VARCHAR(64), 
	status VARCHAR(16) NOT NULL, 
	attempts INTEGER NOT NULL, 
	due_at DATETIME NOT NULL, 
	ended_at DATETIME, 
	detail TEXT NOT NULL, 
	CONSTRAINT pk_deliveries PRIMARY KEY (id), 
	CONSTRAINT fk_deliveries_trigger_id_triggers FOREIGN KEY(trigger_id) REFERENCES triggers (id) ON DELETE CASCADE
);
INSERT INTO "deliveries" VALUES(1,1,'800e91516fdb4e22ac3ba8ab4a59984c','2025-01-01 17:15:57.964420','v1','sha256:d3bf2b8190466ff9b2ebe7d45fa4abc7c1416d3cb2c1a4b12aacf264a552faca','admin','waiting',2,'2025-01-01 17:16:00.474058',NULL,'attempt 2 of 20: the webhook could not be reached');
INSERT INTO "deliveries" VALUES(2,1,'d54f3739c1c84a2698163a00724b437f','2025-01-01 17:15:58.813289','v2','sha256:0ec98e32bdec392149d342d76f3c1372d5131ca6f560f351f184da503d7d33d6','admin','waiting',1,'2025-01-01 17:15:59.830449',NULL,'attempt 1 of 20: the webhook could not be reached');
CREATE TABLE domains (
	id VARCHAR(32) NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	CONSTRAINT pk_domains PRIMARY KEY (id), 
	CONSTRAINT uq_domains_name UNIQUE (name)
);
INSERT INTO "domains" VALUES('87d55013995e42ffb491b6366dc337c5','tagferry');
INSERT INTO "domains" VALUES('404eb3bf7f5c42e4b1e570a3d2c5f9e2','partners');
CREATE TABLE organization_permissions (
	organization_id INTEGER NOT NULL, 
	user_id VARCHAR(32) NOT NULL, 
	auth INTEGER NOT NULL, 
	CONSTRAINT pk_organization_permissions PRIMARY KEY (organization_id, user_id), 
	CONSTRAINT fk_organization_permissions_organization_id_organizations FOREIGN KEY(organization_id) REFERENCES organizations (id) ON DELETE CASCADE, 
	CONSTRAINT fk_organization_permissions_user_id_users FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE
);
INSERT INTO "organization_permissions" VALUES(1,'5a04a24aa4a5431984df9c01b34ef089',7);
INSERT INTO "organization_permissions" VALUES(2,'5a04a24aa4a5431984df9c01b34ef089',7);
INSERT INTO "organization_permissions" VALUES(3,'5a04a24aa4a5431984df9c01b34ef089',7);
INSERT INTO "organization_permissions" VALUES(4,'5a04a24aa4a5431984df9c01b34ef089',7);
INSERT INTO "organization_permissions" VALUES(1,'32c395ab18764189a3910d9669889234',3);
CREATE TABLE organizations (
	id INTEGER NOT NULL, 
	region VARCHAR(64) NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	domain_id VARCHAR(32) NOT NULL, 
	creator_id VARCHAR(32) NOT NULL, 
	creator_name VARCHAR(64) NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_organizations PRIMARY KEY (id), 
	CONSTRAINT fk_organizations_domain_id_domains FOREIGN KEY(domain_id) REFERENCES domains (id), 
	CONSTRAINT uq_organizations_region_name UNIQUE (region, name)
);
INSERT INTO "organizations" VALUES(1,'cn-north-4','team','87d55013995e42ffb491b6366dc337c5','5a04a24aa4a5431984df9c01b34ef089','admin','2025-01-01 17:15:06.071923');
INSERT INTO "organizations" VALUES(2,'cn-north-4','archive','87d55013995e42ffb491b6366dc337c5','5a04a24aa4a5431984df9c01b34ef089','admin','2025-01-01 17:15:14.438543');
INSERT INTO "organizations" VALUES(3,'cn-north-208','release','87d55013995e42ffb491b6366dc337c5','5a04a24aa4a5431984df9c01b34ef089','admin','2025-01-01 17:15:25.730730');
INSERT INTO "organizations" VALUES(4,'cn-north-208','copies','87d55013995e42ffb491b6366dc337c5','5a04a24aa4a5431984df9c01b34ef089','admin','2025-01-01 17:15:35.852848');
CREATE TABLE registry_capabilities (
	address VARCHAR(512) NOT NULL, 
	learned_at DATETIME NOT NULL, 
	document TEXT NOT NULL, 
	CONSTRAINT pk_registry_capabilities PRIMARY KEY (address)
);
CREATE TABLE repositories (
	id INTEGER NOT NULL, 
	region VARCHAR(64) NOT NULL, 
	namespace VARCHAR(64) NOT NULL, 
	name VARCHAR(128) NOT NULL, 
	organization_id INTEGER, 
	category VARCHAR(32) NOT NULL, 
	description TEXT NOT NULL, 
	is_public BOOLEAN NOT NULL, 
	creator_id VARCHAR(32) NOT NULL, 
	creator_name VARCHAR(64) NOT NULL, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	CONSTRAINT pk_repositories PRIMARY KEY (id), 
	CONSTRAINT fk_repositories_organization_id_organizations FOREIGN KEY(organization_id) REFERENCES organizations (id) ON DELETE CASCADE, 
	CONSTRAINT uq_repositories_place UNIQUE (region, namespace, name)
);
INSERT INTO "repositories" VALUES(1,'cn-north-4','team','app',1,'linux','the team''s application',0,'5a04a24aa4a5431984df9c01b34ef089','admin','2025-01-01 17:15:56.161272','2025-01-01 17:15:56.161272');
INSERT INTO "repositories" VALUES(2,'cn-north-4','team','old',1,'linux','',0,'5a04a24aa4a5431984df9c01b34ef089','admin','2025-01-01 17:15:56.239283','2025-01-01 17:15:56.239283');
INSERT INTO "repositories" VALUES(3,'cn-north-208','release','app',3,'linux','the team''s application',0,'5a04a24aa4a5431984df9c01b34ef089','admin','2025-01-01 17:15:56.867946','2025-01-01 17:15:56.867946');
CREATE TABLE repository_downloads (
	region VARCHAR(64) NOT NULL, 
	namespace VARCHAR(64) NOT NULL, 
	name VARCHAR(128) NOT NULL, 
	downloads BIGINT NOT NULL, 
	CONSTRAINT pk_repository_downloads PRIMARY KEY (region, namespace, name)
);
CREATE TABLE repository_permissions (
	repository_id INTEGER NOT NULL, 
	user_id VARCHAR(32) NOT NULL, 
	auth INTEGER NOT NULL, 
	CONSTRAINT pk_repository_permissions PRIMARY KEY (repository_id, user_id), 
	CONSTRAINT fk_repository_permissions_repository_id_repositories FOREIGN KEY(repository_id) REFERENCES repositories (id) ON DELETE CASCADE, 
	CONSTRAINT fk_repository_permissions_user_id_users FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE
);
INSERT INTO "repository_permissions" VALUES(1,'32c395ab18764189a3910d9669889234',7);
CREATE TABLE repository_shares (
	repository_id INTEGER NOT NULL, 
	domain_name VARCHAR(64) NOT NULL, 
	description TEXT NOT NULL, 
	deadline DATETIME, 
	creator_id VARCHAR(32) NOT NULL, 
	creator_name VARCHAR(64) NOT NULL, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	CONSTRAINT pk_repository_shares PRIMARY KEY (repository_id, domain_name), 
	CONSTRAINT fk_repository_shares_repository_id_repositories FOREIGN KEY(repository_id) REFERENCES repositories (id) ON DELETE CASCADE
);
INSERT INTO "repository_shares" VALUES(1,'partners','for partners',NULL,'5a04a24aa4a5431984df9c01b34ef089','admin','2025-01-01 17:15:56.960023','2025-01-01 17:15:56.960023');
CREATE TABLE retention_deletions (
	id INTEGER NOT NULL, 
	repository_id INTEGER NOT NULL, 
	policy_id BIGINT NOT NULL, 
	template VARCHAR(16) NOT NULL, 
	tag VARCHAR(128) NOT NULL, 
	digest VARCHAR(140) NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_retention_deletions PRIMARY KEY (id), 
	CONSTRAINT fk_retention_deletions_repository_id_repositories FOREIGN KEY(repository_id) REFERENCES repositories (id) ON DELETE CASCADE
);
INSERT INTO "retention_deletions" VALUES(1,2,1,'tag_rule','v1','sha256:b37ca9181e41ba92f8b3f4499d4f4a584953c3cfe45820d8eeeddca0a7e809cf','2025-01-01 17:15:59.094150');
CREATE TABLE retention_policies (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	repository_id INTEGER NOT NULL, 
	rules JSON NOT NULL, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	ran_at DATETIME, 
	CONSTRAINT fk_retention_policies_repository_id_repositories FOREIGN KEY(repository_id) REFERENCES repositories (id) ON DELETE CASCADE, 
	CONSTRAINT uq_retention_policies_repository_id UNIQUE (repository_id)
);
INSERT INTO "retention_policies" VALUES(1,2,'[{"template": "tag_rule", "params": {"num": "1"}, "tag_selectors": []}]','2025-01-01 17:15:59.073549','2025-01-01 17:15:59.073549','2025-01-01 17:15:59.082970');
CREATE TABLE retention_tags (
	policy_id INTEGER NOT NULL, 
	tag VARCHAR(128) NOT NULL, 
	digest VARCHAR(140) NOT NULL, 
	pushed_at DATETIME NOT NULL, 
	built_at DATETIME NOT NULL, 
	is_attachment BOOLEAN NOT NULL, 
	CONSTRAINT pk_retention_tags PRIMARY KEY (policy_id, tag), 
	CONSTRAINT fk_retention_tags_policy_id_retention_policies FOREIGN KEY(policy_id) REFERENCES retention_policies (id) ON DELETE CASCADE
);
INSERT INTO "retention_tags" VALUES(1,'v2','sha256:6b3dca90d3c10a573f3fea14d128cf8e1cf1e2dddee3bfcb08c9a42e8532a923','2025-01-01 17:15:58.944182','2024-01-01 00:00:00.000000',0);
INSERT INTO "retention_tags" VALUES(1,'v1','sha256:b37ca9181e41ba92f8b3f4499d4f4a584953c3cfe45820d8eeeddca0a7e809cf','2025-01-01 17:15:58.405375','2024-01-01 00:00:00.000000',0);
CREATE TABLE sync_jobs (
	id INTEGER NOT NULL, 
	request_id VARCHAR(64) NOT NULL, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	domain_id VARCHAR(32) NOT NULL, 
	domain_name VARCHAR(64) NOT NULL, 
	operator_id VARCHAR(32) NOT NULL, 
	operator_name VARCHAR(64) NOT NULL, 
	source_region VARCHAR(64) NOT NULL, 
	namespace VARCHAR(64) NOT NULL, 
	repository VARCHAR(128) NOT NULL, 
	tag VARCHAR(128) NOT NULL, 
	target_region VARCHAR(64) NOT NULL, 
	target_namespace VARCHAR(64) NOT NULL, 
	override BOOLEAN NOT NULL, 
	status VARCHAR(16) NOT NULL, 
	reason TEXT NOT NULL, 
	digest VARCHAR(140), 
	bytes_total BIGINT NOT NULL, 
	bytes_done BIGINT NOT NULL, rewritten JSON, priority SMALLINT DEFAULT '0' NOT NULL, turn BIGINT DEFAULT '0' NOT NULL, after_id BIGINT, worker_id BIGINT, starts INTEGER DEFAULT '0' NOT NULL, started_at DATETIME, ended_at DATETIME, deadline_at DATETIME, 
	CONSTRAINT pk_sync_jobs PRIMARY KEY (id)
);
INSERT INTO "sync_jobs" VALUES(1,'rule-1-72c019f660db458a','2025-01-01 17:15:58.260384','2025-01-01 17:15:58.594108','87d55013995e42ffb491b6366dc337c5','tagferry','5a04a24aa4a5431984df9c01b34ef089','admin','cn-north-4','team','app','v1','cn-north-208','release',1,'success','copied and verified','sha256:d3bf2b8190466ff9b2ebe7d45fa4abc7c1416d3cb2c1a4b12aacf264a552faca',202,202,NULL,1,1,NULL,NULL,1,'2025-01-01 17:15:58.318480','2025-01-01 17:15:58.594108','2121-12-22 22:35:58.260384');
INSERT INTO "sync_jobs" VALUES(2,'rule-2-3148a566ba3d4635','2025-01-01 17:15:58.800632','2025-01-01 17:15:58.926826','87d55013995e42ffb491b6366dc337c5','tagferry','5a04a24aa4a5431984df9c01b34ef089','admin','cn-north-208','release','app','v1','cn-north-4','archive',1,'success','copied and verified','sha256:d3bf2b8190466ff9b2ebe7d45fa4abc7c1416d3cb2c1a4b12aacf264a552faca',202,202,NULL,1,1,NULL,NULL,1,'2025-01-01 17:15:58.814055','2025-01-01 17:15:58.926826','2121-12-22 22:35:58.800632');
INSERT INTO "sync_jobs" VALUES(3,'rule-1-963faae79a3643ba','2025-01-01 17:15:58.923897','2025-01-01 17:15:58.984625','87d55013995e42ffb491b6366dc337c5','tagferry','5a04a24aa4a5431984df9c01b34ef089','admin','cn-north-4','team','app','v2','cn-north-208','release',1,'success','copied and verified','sha256:0ec98e32bdec392149d342d76f3c1372d5131ca6f560f351f184da503d7d33d6',202,202,NULL,1,1,NULL,NULL,1,'2025-01-01 17:15:58.940729','2025-01-01 17:15:58.984625','2121-12-22 22:35:58.923897');
INSERT INTO "sync_jobs" VALUES(4,'rule-2-4e39ee083ddf46b5','2025-01-01 17:15:59.005126','2025-01-01 17:15:59.018283','87d55013995e42ffb491b6366dc337c5','tagferry','5a04a24aa4a5431984df9c01b34ef089','admin','cn-north-208','release','app','v2','cn-north-4','archive',1,'success','copied and verified','sha256:0ec98e32bdec392149d342d76f3c1372d5131ca6f560f351f184da503d7d33d6',202,202,NULL,1,1,NULL,NULL,1,'2025-01-01 17:15:59.007428','2025-01-01 17:15:59.018283','2121-12-22 22:35:59.005126');
INSERT INTO "sync_jobs" VALUES(5,'82f074eb388a4fbcbbc4ae046b8a575b','2025-01-01 17:15:59.212878','2025-01-01 17:15:59.324582','87d55013995e42ffb491b6366dc337c5','tagferry','5a04a24aa4a5431984df9c01b34ef089','admin','cn-north-4','team','app','v1','cn-north-208','copies',0,'success','copied and verified','sha256:d3bf2b8190466ff9b2ebe7d45fa4abc7c1416d3cb2c1a4b12aacf264a552faca',202,202,NULL,0,1,NULL,NULL,1,'2025-01-01 17:15:59.217876','2025-01-01 17:15:59.324582','2121-12-22 22:35:59.212878');
INSERT INTO "sync_jobs" VALUES(6,'82f074eb388a4fbcbbc4ae046b8a575b','2025-01-01 17:15:59.212878','2025-01-01 17:15:59.366941','87d55013995e42ffb491b6366dc337c5','tagferry','5a04a24aa4a5431984df9c01b34ef089','admin','cn-north-4','team','app','none','cn-north-208','copies',0,'failed','the tag does not exist in the source repository',NULL,0,0,NULL,0,2,NULL,NULL,1,'2025-01-01 17:15:59.363660','2025-01-01 17:15:59.366941','2121-12-22 22:35:59.212878');
INSERT INTO "sync_jobs" VALUES(7,'bc4c7a13a9044391a1a20581427db829','2025-01-01 17:15:59.419167','2025-01-01 17:15:59.435235','87d55013995e42ffb491b6366dc337c5','tagferry','5a04a24aa4a5431984df9c01b34ef089','admin','cn-north-4','team','app','v1','eu-west-1','backup',0,'running','',NULL,0,0,NULL,0,1,NULL,1,1,'2025-01-01 17:15:59.435235',NULL,'2121-12-22 22:35:59.419167');
INSERT INTO "sync_jobs" VALUES(8,'bc4c7a13a9044391a1a20581427db829','2025-01-01 17:15:59.419167','2025-01-01 17:15:59.419167','87d55013995e42ffb491b6366dc337c5','tagferry','5a04a24aa4a5431984df9c01b34ef089','admin','cn-north-4','team','app','v2','eu-west-1','backup',0,'waiting','',NULL,0,0,NULL,0,2,NULL,NULL,0,NULL,NULL,'2121-12-22 22:35:59.419167');
INSERT INTO "sync_jobs" VALUES(9,'f9246c26cb8748dd8dfc767ef240c783','2025-01-01 17:15:59.522541','2025-01-01 17:15:59.522541','87d55013995e42ffb491b6366dc337c5','tagferry','5a04a24aa4a5431984df9c01b34ef089','admin','cn-north-4','team','app','v1','eu-west-1','backup',1,'waiting','',NULL,0,0,NULL,0,3,7,NULL,0,NULL,NULL,'2121-12-22 22:35:59.522541');
INSERT INTO "sync_jobs" VALUES(10,'f9246c26cb8748dd8dfc767ef240c783','2025-01-01 17:15:59.522541','2025-01-01 17:15:59.522541','87d55013995e42ffb491b6366dc337c5','tagferry','5a04a24aa4a5431984df9c01b34ef089','admin','cn-north-4','team','app','v2','eu-west-1','backup',1,'waiting','',NULL,0,0,NULL,0,4,8,NULL,0,NULL,NULL,'2121-12-22 22:35:59.522541');
CREATE TABLE sync_rule_tags (
	rule_id INTEGER NOT NULL, 
	tag VARCHAR(128) NOT NULL, 
	digest VARCHAR(140), 
	arrival_id BIGINT NOT NULL, 
	came_through JSON NOT NULL, 
	CONSTRAINT pk_sync_rule_tags PRIMARY KEY (rule_id, tag), 
	CONSTRAINT fk_sync_rule_tags_rule_id_sync_rules FOREIGN KEY(rule_id) REFERENCES sync_rules (id) ON DELETE CASCADE
);
INSERT INTO "sync_rule_tags" VALUES(1,'v1','sha256:d3bf2b8190466ff9b2ebe7d45fa4abc7c1416d3cb2c1a4b12aacf264a552faca',0,'[]');
INSERT INTO "sync_rule_tags" VALUES(2,'v1','sha256:d3bf2b8190466ff9b2ebe7d45fa4abc7c1416d3cb2c1a4b12aacf264a552faca',1,'["cn-north-4/team"]');
INSERT INTO "sync_rule_tags" VALUES(1,'v2','sha256:0ec98e32bdec392149d342d76f3c1372d5131ca6f560f351f184da503d7d33d6',0,'[]');
INSERT INTO "sync_rule_tags" VALUES(2,'v2','sha256:0ec98e32bdec392149d342d76f3c1372d5131ca6f560f351f184da503d7d33d6',3,'["cn-north-4/team"]');
CREATE TABLE sync_rules (
	id INTEGER NOT NULL, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	domain_id VARCHAR(32) NOT NULL, 
	domain_name VARCHAR(64) NOT NULL, 
	creator_id VARCHAR(32) NOT NULL, 
	source_region VARCHAR(64) NOT NULL, 
	namespace VARCHAR(64) NOT NULL, 
	repository VARCHAR(128) NOT NULL, 
	target_region VARCHAR(64) NOT NULL, 
	target_namespace VARCHAR(64) NOT NULL, 
	source_organization_id INTEGER, 
	target_organization_id INTEGER, 
	override BOOLEAN NOT NULL, 
	sync_auto BOOLEAN NOT NULL, 
	arrival_id BIGINT NOT NULL, 
	CONSTRAINT pk_sync_rules PRIMARY KEY (id), 
	CONSTRAINT fk_sync_rules_source_organization_id_organizations FOREIGN KEY(source_organization_id) REFERENCES organizations (id) ON DELETE CASCADE, 
	CONSTRAINT fk_sync_rules_target_organization_id_organizations FOREIGN KEY(target_organization_id) REFERENCES organizations (id) ON DELETE CASCADE, 
	CONSTRAINT uq_sync_rules_way UNIQUE (source_region, namespace, repository, target_region, target_namespace)
);
INSERT INTO "sync_rules" VALUES(1,'2025-01-01 17:15:56.997318','2025-01-01 17:15:56.997318','87d55013995e42ffb491b6366dc337c5','tagferry','5a04a24aa4a5431984df9c01b34ef089','cn-north-4','team','app','cn-north-208','release',1,3,1,1,0);
INSERT INTO "sync_rules" VALUES(2,'2025-01-01 17:15:57.206163','2025-01-01 17:15:57.206163','87d55013995e42ffb491b6366dc337c5','tagferry','5a04a24aa4a5431984df9c01b34ef089','cn-north-208','release','app','cn-north-4','archive',3,2,1,1,0);
CREATE TABLE tokens (
	token_hash VARCHAR(64) NOT NULL, 
	user_id VARCHAR(32) NOT NULL, 
	issued_at DATETIME NOT NULL, 
	expires_at DATETIME NOT NULL, method VARCHAR(16) DEFAULT 'password' NOT NULL, access_key VARCHAR(64), project VARCHAR(64), 
	CONSTRAINT pk_tokens PRIMARY KEY (token_hash), 
	CONSTRAINT fk_tokens_user_id_users FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE
);
INSERT INTO "tokens" VALUES('a5f529838aa6606c32cb586581b7baf937f5779a1f468b960a13e92479711f25','5a04a24aa4a5431984df9c01b34ef089','2025-01-01 17:15:55.357338','2126-11-04 17:15:55.357338','password',NULL,NULL);
CREATE TABLE trigger_tags (
	trigger_id INTEGER NOT NULL, 
	tag VARCHAR(128) NOT NULL, 
	digest VARCHAR(140) NOT NULL, 
	CONSTRAINT pk_trigger_tags PRIMARY KEY (trigger_id, tag), 
	CONSTRAINT fk_trigger_tags_trigger_id_triggers FOREIGN KEY(trigger_id) REFERENCES triggers (id) ON DELETE CASCADE
);
INSERT INTO "trigger_tags" VALUES(1,'v1','sha256:d3bf2b8190466ff9b2ebe7d45fa4abc7c1416d3cb2c1a4b12aacf264a552faca');
INSERT INTO "trigger_tags" VALUES(1,'v2','sha256:0ec98e32bdec392149d342d76f3c1372d5131ca6f560f351f184da503d7d33d6');
CREATE TABLE triggers (
	id INTEGER NOT NULL, 
	repository_id INTEGER NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	enabled BOOLEAN NOT NULL, 
	action VARCHAR(16) NOT NULL, 
	trigger_type VARCHAR(16) NOT NULL, 
	condition TEXT NOT NULL, 
	trigger_mode VARCHAR(16) NOT NULL, 
	cluster_id VARCHAR(128) NOT NULL, 
	cluster_name VARCHAR(128) NOT NULL, 
	cluster_ns VARCHAR(63) NOT NULL, 
	app_type VARCHAR(16) NOT NULL, 
	application VARCHAR(253) NOT NULL, 
	container VARCHAR(253) NOT NULL, 
	creator_id VARCHAR(32) NOT NULL, 
	creator_name VARCHAR(64) NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_triggers PRIMARY KEY (id), 
	CONSTRAINT fk_triggers_repository_id_repositories FOREIGN KEY(repository_id) REFERENCES repositories (id) ON DELETE CASCADE, 
	CONSTRAINT uq_triggers_name UNIQUE (repository_id, name)
);
INSERT INTO "triggers" VALUES(1,1,'deploy',1,'update','all','.*','cce','','production','default','deployments','web','','5a04a24aa4a5431984df9c01b34ef089','admin','2025-01-01 17:15:57.310467');
CREATE TABLE users (
	id VARCHAR(32) NOT NULL, 
	domain_id VARCHAR(32) NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	password_hash VARCHAR(255) NOT NULL, 
	is_admin BOOLEAN NOT NULL, 
	created_at DATETIME NOT NULL, enabled BOOLEAN DEFAULT true NOT NULL, description VARCHAR(255), 
	CONSTRAINT pk_users PRIMARY KEY (id), 
	CONSTRAINT fk_users_domain_id_domains FOREIGN KEY(domain_id) REFERENCES domains (id), 
	CONSTRAINT uq_users_name UNIQUE (name)
);
INSERT INTO "users" VALUES('5a04a24aa4a5431984df9c01b34ef089','87d55013995e42ffb491b6366dc337c5','admin','$argon2id$v=19$m=19456,t=2,p=1$Hv52UbKk7IA/df39byk51g$APqqyM4Lng/+k83uzQ79bI+U71qVwZPo9cslvSHwZHM',1,'2025-01-01 17:14:28.611458',1,'');
INSERT INTO "users" VALUES('32c395ab18764189a3910d9669889234','87d55013995e42ffb491b6366dc337c5','carol','$argon2id$v=19$m=19456,t=2,p=1$hapdzyg7uwCllv+OK18zzg$OhdvPEaPFrB0mK6iO9Oq1XhWdcryuOXLxtQeOVGBQPA',0,'2025-01-01 17:14:39.895565',1,'');
INSERT INTO "users" VALUES('a1823aa63ca847ccadc3706970d10146','404eb3bf7f5c42e4b1e570a3d2c5f9e2','dora','$argon2id$v=19$m=19456,t=2,p=1$ASxmsInTcXE8F21HCJYa5g$/i88B+9xC7wWAU8+Ywl9KPnIuuXV8advA/NnNL5axX8',0,'2025-01-01 17:14:47.815468',1,'');
CREATE TABLE workers (
	id INTEGER NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	started_at DATETIME NOT NULL, 
	CONSTRAINT pk_workers PRIMARY KEY (id)
);
INSERT INTO "workers" VALUES(1,'vm:6272','2025-01-01 17:15:53.737317');
CREATE INDEX ix_sync_jobs_repository ON sync_jobs (source_region, namespace, repository, id);
CREATE INDEX ix_sync_jobs_request_id ON sync_jobs (request_id);
CREATE INDEX ix_access_keys_user_id ON access_keys (user_id);
CREATE INDEX ix_tokens_expires_at ON tokens (expires_at);
CREATE INDEX ix_tokens_user_id ON tokens (user_id);
CREATE INDEX ix_blob_locations_seen_at ON blob_locations (seen_at);
CREATE INDEX ix_sync_jobs_queue ON sync_jobs (status, priority, turn, id);
CREATE INDEX ix_sync_jobs_operator ON sync_jobs (operator_id) WHERE status IN ('waiting', 'running');
CREATE INDEX ix_sync_jobs_way ON sync_jobs (source_region, namespace, repository, tag, target_region, target_namespace) WHERE status IN ('waiting', 'running');
CREATE INDEX ix_sync_jobs_after_id ON sync_jobs (after_id) WHERE after_id IS NOT NULL;
CREATE INDEX ix_sync_jobs_ended_at ON sync_jobs (ended_at);
CREATE INDEX ix_sync_jobs_target ON sync_jobs (target_region, target_namespace, repository, tag, id);
CREATE INDEX ix_blob_uploads_updated_at ON blob_uploads (updated_at);
CREATE INDEX ix_repositories_organization_id ON repositories (organization_id);
CREATE INDEX ix_retention_deletions_repository_id ON retention_deletions (repository_id, id);
CREATE INDEX ix_retention_deletions_created_at ON retention_deletions (created_at);
CREATE INDEX ix_deliveries_trigger ON deliveries (trigger_id, id);
CREATE INDEX ix_deliveries_due ON deliveries (due_at, id) WHERE status = 'waiting';
CREATE INDEX ix_deliveries_ended_at ON deliveries (ended_at);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('retention_policies',1);
COMMIT;
