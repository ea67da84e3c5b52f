-- Steps of claims that the server takes in one call, for PostgreSQL; {schema} is the ledger's. The lock is held for as
-- long as the server itself needs, however far away the caller is. A step is taken only where nothing stands in its way,
-- and the last parameter answers whether it was; all else, every refusal above all, is the caller's, in a transaction of
-- its own. The guards look at all that they write. (They have one search path, as a plan that was made under another is
-- made again at each call.)
--
-- The lock falls before the disk has what was written: a step commits without waiting for it, and then writes one more
-- record, for which it waits. What is in the log before that record is on the disk then, so the caller hears of nothing
-- that can be lost, and those who come next need not wait for the disk one after another.

-- one + sign * other, of two fractions, in lowest terms.
CREATE OR REPLACE FUNCTION {schema}.fraction_sum(one text, other text, sign integer)
RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT AS $$
DECLARE
    a numeric[] := {schema}.guard_fraction(one);
    b numeric[] := {schema}.guard_fraction(other);
    above numeric := a[1] * b[2] + sign * b[1] * a[2];
    below numeric := a[2] * b[2];
    common numeric := gcd(above, below);
BEGIN
    RETURN CASE below WHEN common THEN div(above, common)::text ELSE div(above, common) || '/' || div(below, common) END;
END $$;

-- The same of each amount, in the words in which a ledger keeps them; NULL where the two are not of one kind, or an amount
-- is too long for those who read it.
CREATE OR REPLACE FUNCTION {schema}.amounts_sum(one text, other text, sign integer)
RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT AS $$
DECLARE
    others jsonb := other;
    name text;
    amount text;
    parts text[];
BEGIN
    FOR name, amount IN SELECT * FROM jsonb_each_text(one::jsonb) ORDER BY key COLLATE "C" LOOP
        IF name <> 'kind' THEN
            amount := {schema}.fraction_sum(amount, others ->> name, sign);
        ELSIF amount IS DISTINCT FROM others ->> name THEN
            RETURN NULL;
        END IF;
        IF length(amount) > 4000 THEN
            RETURN NULL;
        END IF;
        parts := parts || ('"' || name || '": "' || amount || '"');
        others := others - name;
    END LOOP;
    RETURN CASE WHEN others = '{}' AND array_position(parts, NULL) IS NULL THEN '{' || array_to_string(parts, ', ') || '}' END;
END $$;

-- Appends an event to the audit log, of whose JSON `said` is all but the brackets and the time.
CREATE OR REPLACE FUNCTION {schema}.record(now float8, said text)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    words text := '{"at": ' || to_json(now) || ', ' || said || '}';
BEGIN
    INSERT INTO {schema}.audit (sequence, at, event, hash)
    SELECT sequence + 1, now, words, encode(sha256(convert_to(hash || chr(10) || words, 'UTF8')), 'hex')
    FROM {schema}.audit ORDER BY sequence DESC LIMIT 1;
END $$;

-- A new claim on blocks that are there, all unlocked, with room, while nobody waits and no lease is over.
CREATE OR REPLACE PROCEDURE {schema}.claim(
    INOUT now float8, places text, asked text, rule text, request text, holder text, source text, version text,
    key text, run text, why text, lease float8, patience float8, worth integer, INOUT fresh integer
) LANGUAGE plpgsql AS $$
DECLARE
    names text[] := ARRAY(SELECT * FROM json_array_elements_text(places::json));
    place text;
    block {schema}.blocks;
    sum text;
    sums text[];
BEGIN
    PERFORM set_config('search_path', 'pg_catalog, pg_temp', true), set_config('synchronous_commit', 'off', true);
    PERFORM pg_advisory_xact_lock('{schema}.audit'::regclass::oid::bigint);
    IF EXISTS (SELECT FROM {schema}.claims WHERE request_id = request)
        OR EXISTS (SELECT FROM {schema}.claims WHERE state = 'waiting')
        OR EXISTS (SELECT FROM {schema}.claims WHERE state = 'reserved' AND lease_expires_at <= now)
        OR cardinality(names) <> (SELECT count(DISTINCT name) FROM unnest(names) AS name)
    THEN
        RETURN;
    END IF;
    FOREACH place IN ARRAY names LOOP
        SELECT * INTO block FROM {schema}.blocks WHERE name = place;
        sum := {schema}.amounts_sum(block.acquired, asked, 1);
        IF (sum <> block.acquired AND block.unlocked = '1' AND {schema}.guard_fits(sum, block.consumed, block.capacity))
            IS NOT TRUE
        THEN
            RETURN;
        ELSIF rule <> '' AND NOT EXISTS (
            SELECT FROM {schema}.layouts
            WHERE name = block.layout AND encode(sha256(convert_to(layouts.rule, 'UTF8')), 'hex') = claim.rule
        ) THEN
            RETURN;
        END IF;
        sums := sums || sum;
    END LOOP;
    FOR i IN 1 .. cardinality(names) LOOP
        UPDATE {schema}.blocks SET acquired = sums[i] WHERE name = names[i];
    END LOOP;
    INSERT INTO {schema}.claims (
        number, request_id, blocks, price, owner, weight, table_name, data_version, release_key, run_id, purpose,
        disclosure, state, fence, lease_seconds, lease_expires_at, created_at, updated_at
    )
    SELECT coalesce(max(number), 0) + 1, request, places, asked, holder, worth, source, version, key, run, why,
        '', 'reserved', 1, lease, now + lease, now, now
    FROM {schema}.claims RETURNING number INTO fresh;
    PERFORM {schema}.record(now, '"claim": ' || fresh || ', "demand": ' || {schema}.guard_demand(places, asked)
        || ', "event": "reserved", "within": null');
    COMMIT;
    PERFORM pg_logical_emit_message(true, '', '');
END $$;

-- reserved -> armed, with the vector that is paid for. With the owner's rights: nobody else may take this step, so that
-- none is armed without the blocks' being charged.
CREATE OR REPLACE FUNCTION {schema}.armed(now float8, ticket integer, fenced integer, vector bytea)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    row {schema}.claims;
    said text;
    place text;
    amounts text;
BEGIN
    PERFORM pg_advisory_xact_lock('{schema}.audit'::regclass::oid::bigint);
    SELECT * INTO row FROM {schema}.claims
    WHERE number = ticket AND fence <= fenced AND state = 'reserved' AND lease_expires_at > now
        AND now BETWEEN 0 AND 1e11;
    IF NOT FOUND OR NOT {schema}.guard_agreed(row) THEN
        RETURN NULL;
    END IF;
    said := {schema}.guard_demand(row.blocks, coalesce(row.held, row.price));
    IF (
        SELECT count(*) = json_array_length(row.blocks::json) AND count(*) = count(DISTINCT key)
            AND bool_and(row.blocks::jsonb ? key)
        FROM json_object_keys(said::json) AS key
    ) IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'a claim holds a part of each of its blocks';
    END IF;
    FOR place, amounts IN SELECT * FROM json_each_text(said::json) LOOP
        UPDATE {schema}.blocks SET acquired = {schema}.amounts_sum(acquired, amounts, -1),
            consumed = {schema}.amounts_sum(consumed, amounts, 1)
        WHERE name = place;
        IF NOT FOUND THEN
            RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'a claim is on blocks that are there';
        END IF;
    END LOOP;
    UPDATE {schema}.claims SET state = 'armed', noised = vector, updated_at = now WHERE number = ticket;
    PERFORM {schema}.record(now, '"claim": ' || ticket || ', "demand": ' || said
        || ', "event": "armed", "release_key": ' || to_json(row.release_key));
    RETURN true;
END $$;

-- For those alone who may make claims.
REVOKE ALL ON FUNCTION {schema}.armed(float8, integer, integer, bytea) FROM PUBLIC;
DO $$
DECLARE
    analyst regrole;
BEGIN
    FOR analyst IN
        SELECT grantee FROM pg_class, aclexplode(relacl)
        WHERE pg_class.oid = '{schema}.claims'::regclass AND privilege_type = 'INSERT' AND grantee <> 0
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION {schema}.armed(float8, integer, integer, bytea) TO %s', analyst);
    END LOOP;
END $$;

CREATE OR REPLACE PROCEDURE {schema}.arm(
    INOUT now float8, ticket integer, fenced integer, vector bytea, INOUT done boolean
) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('search_path', 'pg_catalog, pg_temp', true), set_config('synchronous_commit', 'off', true);
    done := {schema}.armed(now, ticket, fenced, vector);
    COMMIT;
    PERFORM pg_logical_emit_message(true, '', '');
END $$;

-- armed -> spent; a release that comes with it is stored, unless one is, and the vector dropped.
CREATE OR REPLACE PROCEDURE {schema}.spend(
    INOUT now float8, ticket integer, fenced integer, answer bytea, asked text, INOUT done boolean
) LANGUAGE plpgsql AS $$
DECLARE
    row {schema}.claims;
    said text;
BEGIN
    PERFORM set_config('search_path', 'pg_catalog, pg_temp', true), set_config('synchronous_commit', 'off', true);
    PERFORM pg_advisory_xact_lock('{schema}.audit'::regclass::oid::bigint);
    SELECT * INTO row FROM {schema}.claims WHERE number = ticket AND fence <= fenced AND state = 'armed';
    said := {schema}.guard_demand(row.blocks, coalesce(row.held, row.price));
    IF said IS NULL OR (answer IS NOT NULL AND row.release_key = '') THEN
        RETURN;
    END IF;
    UPDATE {schema}.claims SET state = 'spent', updated_at = now WHERE number = ticket;
    PERFORM {schema}.record(now, '"claim": ' || ticket || ', "demand": ' || said || ', "event": "spent"');
    IF answer IS NOT NULL AND NOT EXISTS (SELECT FROM {schema}.releases WHERE release_key = row.release_key) THEN
        INSERT INTO {schema}.releases (release_key, claim, plan, release, stored_at)
        VALUES (row.release_key, ticket, asked, answer, now);
        PERFORM {schema}.record(now, '"claim": ' || ticket || ', "event": "stored", "release_key": '
            || to_json(row.release_key));
    END IF;
    IF answer IS NOT NULL THEN
        UPDATE {schema}.claims SET noised = NULL WHERE release_key = row.release_key AND noised IS NOT NULL;
    END IF;
    done := true;
    COMMIT;
    PERFORM pg_logical_emit_message(true, '', '');
END $$;

-- The tables' owner has all of this, also where a superuser has put it here.
DO $$
DECLARE
    routine regprocedure;
    steward regrole := (SELECT relowner FROM pg_class WHERE oid = '{schema}.claims'::regclass);
BEGIN
    FOR routine IN SELECT oid FROM pg_proc WHERE pronamespace = '{schema}'::regnamespace AND proowner <> steward LOOP
        EXECUTE format('ALTER ROUTINE %s OWNER TO %s', routine, steward);
    END LOOP;
END $$;
