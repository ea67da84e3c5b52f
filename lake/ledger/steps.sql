-- Steps of claims that the server takes in one call, for PostgreSQL; {schema} is the ledger's. The lock is held for as
-- long as the server itself needs, however far away the caller is. A step is taken only where nothing stands in its way,
-- and the last parameter answers whether it was; all else, every refusal above all, is the caller's, in a transaction of
-- its own. The guards look at all that they write. (They have one search path, as a plan that was made under another is
-- made again at each call.)
--
-- The lock falls before the disk has what was written: a step commits without waiting for it, and then writes one more
-- record, for which it waits. What is in the log before that record is on the disk then, so the caller hears of nothing
-- that can be lost, and those who come next need not wait for the disk one after another.

-- one + sign * other of each amount, fractions in lowest terms, in the words of `one`; NULL where the two are not of one
-- kind, or an amount is too long for those who read it.
CREATE OR REPLACE FUNCTION {schema}.amounts_sum(one text, other text, sign integer)
RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT AS $$
DECLARE
    sums text[] := string_to_array(one, '"');
    others jsonb := other;
    a text;
    b text;
    above numeric;
    below numeric;
    common numeric;
BEGIN
    FOR i IN 4 .. cardinality(sums) BY 4 LOOP
        a := sums[i];
        b := others ->> sums[i - 2];
        others := others - sums[i - 2];
        IF b IS NULL OR sums[i - 2] = 'kind' THEN
            IF b IS DISTINCT FROM a THEN
                RETURN NULL;
            END IF;
            CONTINUE;
        ELSIF a !~ '^[0-9]+(/0*[1-9][0-9]*)?$' OR b !~ '^[0-9]+(/0*[1-9][0-9]*)?$' OR length(b) > 4000 THEN
            RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'an amount is a fraction, at least 0';
        END IF;
        above := {schema}.numerator(a) * {schema}.denominator(b) + sign * {schema}.numerator(b) * {schema}.denominator(a);
        below := {schema}.denominator(a) * {schema}.denominator(b);
        common := gcd(above, below);
        sums[i] := div(above, common) || CASE below WHEN common THEN '' ELSE '/' || div(below, common) END;
        IF length(sums[i]) > 4000 THEN
            RETURN NULL;
        END IF;
    END LOOP;
    RETURN CASE others WHEN '{}' THEN array_to_string(sums, '"') END;
END $$;

-- Appends an event to the audit log, of whose JSON `said` is all but the brackets and the time.
CREATE OR REPLACE FUNCTION {schema}.record(now float8, said text)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO {schema}.audit (at, event) VALUES (now, '{"at": ' || to_json(now) || ', ' || said || '}');
END $$;

-- A new claim on blocks that are there, all unlocked, with room, while nobody waits and no lease is over.
CREATE OR REPLACE PROCEDURE {schema}.claim(
    INOUT now float8, places text, asked text, rule text, request text, holder text, source text, version text,
    key text, run text, why text, lease float8, patience float8, worth integer, INOUT fresh integer
) LANGUAGE plpgsql AS $$
DECLARE
    names text[] := '{}';
    demand text := '';
    said text;
    moved integer;
BEGIN
    FOR i IN 0 .. json_array_length(places::json) - 1 LOOP
        names := names || (places::json ->> i);
        demand := demand || ', ' || (places::json -> i) || ': ' || asked;
    END LOOP;
    IF demand = '' OR asked ~ '": "0+["/]' AND asked !~ '": "0*[1-9]' THEN
        RETURN; -- of no block, or nothing
    END IF;
    -- what is asked is then added to what is acquired; a block without room is a row less, in place of an error
    said := set_config('search_path', 'pg_catalog, pg_temp', true) || set_config('synchronous_commit', 'off', true)
        || set_config('spark_mpc.adds', 'yes', true);
    said := pg_advisory_xact_lock('{schema}.audit'::regclass::oid::bigint)::text;
    UPDATE {schema}.blocks SET acquired = asked
    WHERE name = ANY (names) AND unlocked = '1'
        AND NOT EXISTS (SELECT FROM {schema}.claims WHERE request_id = request)
        AND NOT EXISTS (SELECT FROM {schema}.claims WHERE state = 'waiting')
        AND NOT EXISTS (SELECT FROM {schema}.claims WHERE state = 'reserved' AND lease_expires_at <= now);
    GET DIAGNOSTICS moved = ROW_COUNT;
    IF moved <> cardinality(names) THEN
        ROLLBACK;
        RETURN;
    ELSIF rule <> '' THEN
        SELECT count(*) INTO moved FROM {schema}.blocks JOIN {schema}.layouts ON layouts.name = blocks.layout
        WHERE blocks.name = ANY (names) AND encode(sha256(convert_to(layouts.rule, 'UTF8')), 'hex') = claim.rule;
        IF moved <> cardinality(names) THEN
            ROLLBACK;
            RETURN;
        END IF;
    END IF;
    WITH made AS (
        INSERT INTO {schema}.claims (
            request_id, blocks, price, owner, weight, table_name, data_version, release_key, run_id, purpose,
            disclosure, state, fence, lease_seconds, lease_expires_at, created_at, updated_at
        ) VALUES (
            request, places, asked, holder, worth, source, version, key, run, why,
            '', 'reserved', 1, lease, now + lease, now, now
        ) RETURNING number
    )
    INSERT INTO {schema}.audit (at, event)
    SELECT now, '{"at": ' || to_json(now) || ', "claim": ' || number || ', "demand": {' || substr(demand, 3)
        || '}, "event": "reserved", "within": null}'
    FROM made
    RETURNING (SELECT number FROM made) INTO fresh;
    COMMIT;
    said := pg_logical_emit_message(true, '', '');
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
